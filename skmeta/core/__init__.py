"""The torch core: tasks, sampling, learners. It knows nothing of scikit-learn."""
