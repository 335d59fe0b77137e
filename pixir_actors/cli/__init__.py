"""The command line: `pixir-actors`. No logic of its own."""
