"""Chest X-rays from DICOM, PNG and JPEG files, and the data sets made of them."""
