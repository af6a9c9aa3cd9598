"""Importers: the sheet of a public data set from its files and tables, one module per data set."""
