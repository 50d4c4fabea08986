"""Looking at meta-learners: plots that hold their numbers. Needs matplotlib only when it draws."""

from skmeta.inspection._adaptation import AdaptationCurveDisplay
from skmeta.inspection._embedding import EmbeddingDisplay
from skmeta.inspection._samples import ImageGridDisplay
from skmeta.inspection._training import TrainingCurveDisplay

__all__ = ["AdaptationCurveDisplay", "EmbeddingDisplay", "ImageGridDisplay", "TrainingCurveDisplay"]
