"""What a picture shows, as far as simple image statistics tell."""
