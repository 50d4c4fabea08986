"""Handwritten digits of MNIST: 70,000 images without tasks of their own."""

from __future__ import annotations

import os

import numpy as np
from sklearn.utils import Bunch

from skmeta.datasets._fetch import find_files
from skmeta.datasets._pack import pack_images
from skmeta.datasets._read import read_bytes

# The page of the authors does not hand the files out any more; these are the copies that PyTorch
# and TensorFlow use.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
SUBSETS = ("train", "test", "all")

# Half -> folder, number of images, then file and checksum (of the unpacked bytes) of the images
# and of the labels.
HALVES = {
    "train": (
        "mnist_train",
        60000,
        (
            "train-images-idx3-ubyte",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        "mnist_t10k",
        10000,
        (
            "t10k-images-idx3-ubyte",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}

LICENCE = (
    "None stated by the authors, Yann LeCun, Corinna Cortes and Christopher Burges. Copies are "
    "often given out under CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/"
)
CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998). Gradient-based learning applied to "
    "document recognition. Proceedings of the IEEE, 86(11), 2278-2324."
)
DESCR = """\
Handwritten digits (MNIST)
==========================
Grey images of handwritten digits, 28 x 28: 60,000 to train with, written by about 250 people, and
10,000 to test with, by other people.

Target: the digit, 0 to 9. 0 is paper and full ink is the largest value.

There are no tasks here, and so no groups: the digit is the label, not a task, and the writers are
not named. Tasks can be made: fit a classifier without groups and episodes draw classes, or ask
questions about the digits as make_digit_questions does.
"""


def fetch_mnist(
    subset: str = "train",
    *,
    scaled: bool = True,
    data_home: str | os.PathLike | None = None,
    as_frame: bool = False,
    return_X_y: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple:
    """Load MNIST: 70,000 images of handwritten digits.

    These images have NO tasks of their own, and the answer has no ``groups``: the digit is the
    label and must not serve as a task id as well (all rows of such a task would bear one label).
    A classifier fitted on (data, target) without groups draws its episodes from the classes.

    The unpacked bytes of each file are compared with the sha256 known for the published files.
    For the test half a copy was found to have it; the sums of the training half are those under
    which the files are generally handed on, and no copy was at hand to compare.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The 60,000 images for training, the 10,000 for testing, or all, training first.
    scaled : bool, default=True
        Whether to give float32 from 0 (paper) to 1 (ink). False: the bytes of the files, uint8
        from 0 to 255, in a quarter of the memory.
    data_home : path-like or None, default=None
        Folder that holds ``mnist_train/train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``,
        or ``mnist_t10k/t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain or with
        ``.gz``, used as it is. None: the folder named by the environment variable
        SKMETA_DATA_HOME; without that, the files are downloaded from a public copy (once, to a
        cache; this needs pooch).
    as_frame : bool, default=False
        Whether to give pandas objects, one column a pixel.
    return_X_y : bool, default=False
        Whether to return the tuple (data, target) instead of a Bunch.
    download_if_missing : bool, default=True
        Whether the network may be used.

    Returns
    -------
    Bunch
        With the entries

        data : ndarray or DataFrame of shape (n_images, 784)
            One image a row, row of pixels after row of pixels.
        target : ndarray or Series of shape (n_images,)
            The digit, 0 to 9.
        frame : DataFrame of shape (n_images, 785) or None
            Pixels and ``digit`` (the target); None with ``as_frame=False``.
        feature_names : list of str
            ``pixel_ROW_COLUMN``.
        image_shape : tuple of (int, int)
            (28, 28), for ``data.reshape(-1, *image_shape)``.
        DESCR, licence, citation : str
            What it is, what you may do, whom to cite.
    data, target : tuple
        Only with ``return_X_y=True``.

    Raises
    ------
    ValueError
        If ``subset`` is unknown, a file is truncated or altered, or ``data_home`` is no folder.
    OSError
        If a file is missing and cannot or may not be downloaded.
    ImportError
        If pooch for a download, or pandas for a frame, is not installed.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998). Gradient-based learning applied to
       document recognition. Proceedings of the IEEE, 86(11), 2278-2324.

    Examples
    --------
    >>> from skmeta.datasets import fetch_mnist
    >>> X, y = fetch_mnist("test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y[:5].tolist()  # doctest: +SKIP
    ((10000, 784), [7, 2, 1, 0, 4])
    """
    if not isinstance(subset, str) or subset not in SUBSETS:
        raise ValueError(f'subset must be "train", "test" or "all", got {subset!r}.')
    images, digits = [], []
    for half in HALVES if subset == "all" else [subset]:
        folder, n_images, *files = HALVES[half]
        contents = []
        for name, checksum in files:
            (path,) = find_files(
                folder,
                [name],
                [f"{mirror}/{name}.gz" for mirror in MIRRORS],
                data_home=data_home,
                download_if_missing=download_if_missing,
            )
            contents.append(np.frombuffer(read_bytes(path, checksum), dtype=np.uint8))
        # The header is one word of kind and one word a dimension, four bytes each.
        images.append(contents[0][16:].reshape(n_images, 28, 28))
        digits.append(contents[1][8:].astype(np.int64))
    return pack_images(
        np.concatenate(images),
        {"target": ("digit", np.concatenate(digits))},
        scaled=scaled,
        as_frame=as_frame,
        only_data=return_X_y,
        DESCR=DESCR,
        licence=LICENCE,
        citation=CITATION,
    )
