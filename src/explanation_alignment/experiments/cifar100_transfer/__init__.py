"""CIFAR-100 transfer: do models that look where people look transfer better?

Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiment 4: of 195 timm models the accuracy of a logistic regression
on one CIFAR-100 image a class, beside their explanation alignment and their accuracy on ImageNet.
"""
