"""Ozcelik et al. 2022 (IJCNN): IC-GAN from decoded instance features."""
