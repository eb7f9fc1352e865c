"""Parts that the commands share: clients, servers, load, statistics, tables and pages of results."""
