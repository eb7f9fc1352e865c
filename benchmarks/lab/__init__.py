"""What the commands share: clients, servers, load, statistics, tables and pages. It knows no command."""
