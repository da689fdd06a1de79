"""How well the extractor finds names, measured on a sample of real text labelled by hand."""
