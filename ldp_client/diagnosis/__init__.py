"""The shared diagnostic classifier: what the centre trains and a hospital runs on its own clean X-rays.

classifier   kinds of classifier, each a value with a `kind`, and what they make of an X-ray
bundle       the folder that a hospital gets: card, weights, the centre's signature
scoring      from scores to the bins of an evaluation's histogram
"""
