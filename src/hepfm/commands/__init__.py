"""The commands of `hepfm-data`: parse, call one function, print. Heavy imports live inside of them."""
