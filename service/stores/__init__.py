"""Where answers, captions and events are kept."""
