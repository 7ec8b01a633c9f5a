"""Coloured MNIST: which of two models learned the digit, and which the coloured block?

Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiment 1. One network is trained on images whose
block has the class's colour, one on images whose block has any colour; both are explained on both
kinds of test images. An uncorrelated test set is one permutation of the class colours without fixed
points; what the correlated model does there depends on the permutation, so there are several.
"""
