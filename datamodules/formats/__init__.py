"""One way to open each format of file: what is read is right, or one error names the file and says what is wrong."""
