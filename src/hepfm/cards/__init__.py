"""What shows a dataset or a model to people: figures, cards, reports."""
