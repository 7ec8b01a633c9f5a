"""ImageNet: models of similar accuracy, right for different reasons.

Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiment 5: 22 torchvision models under one crop, Grad-CAM against
the union of an image's boxes, accuracy beside alignment.
"""
