"""How the tables came to be, one step per version. Run by `open_database`; never by hand."""
