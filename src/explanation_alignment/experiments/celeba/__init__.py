"""The two experiments on CelebA's faces: is a smile told by the mouth, or by the colour of the hair?

Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiments 2 and 3. Of two equal networks one is trained on faces
whose smile and hair have nothing to do with each other, one on faces of which nearly all that smile have black hair
and nearly all that do not are blond. The first experiment (``bias_*``) compares them on three test sets, and against
how strong the correlation was; the second ranks the regions of a face by how much each model relies on them. They
share the protocol, the draws, the stand-in of generated faces and the trained models.
"""
