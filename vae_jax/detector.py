"""`VAEDetector`: anomalies in tables by reconstruction probability, with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_jax import model_folder, recipes, thresholds
from vae_jax.data.scaling import Scaler
from vae_jax.networks import VAE
from vae_jax.training import TrainState, active_latents

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float, Int

    from vae_jax.recipes import Recipe, Training

FEWEST_ROWS = 2  # one to train on, and one to set the boundary by


class VAEDetector(OutlierMixin, BaseEstimator):
    """Finds anomalies in a table by their reconstruction probability under small variational autoencoders.

    Fit it on rows that are normal, or nearly all so. Scores are log reconstruction probabilities in nats,
    **higher = more normal**; a row whose score is below `offset_` is an anomaly. A score depends on the fitted model
    and the row alone: not on the other rows, their order, or the devices.

    Features are standardised, so units do not matter. They must be finite numbers.

    Attributes:
      offset_: the boundary, nats, float.
      scaler_: the standardisation, a `Scaler`.
      state_: the K trained models, stacked along a first axis: NumPy arrays under `step`, `params` and `opt_state`.
      kl_warmup_steps_: optimiser steps over which the KL weight rises.
      residual_sd_: standard deviation of each model's features, shape (K, D), in units of standardised features; None
        in the `gaussian` recipe, whose decoder gives its own.
      n_steps_: optimiser steps that the models were trained for.
      active_latents_: how many latents the models use on held-out rows, the fewest of any model; 0 is posterior
        collapse.
      false_alarm_share_: share of the held-out rows that are below the boundary.
      n_features_in_: number of features D.
      feature_names_in_: their names, where `fit` was given a frame.

    References:
      An & Cho 2015, "Variational Autoencoder based Anomaly Detection using Reconstruction Probability", algorithm 4.
      Kingma & Welling 2013, https://arxiv.org/abs/1312.6114.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import VAEDetector
      >>> rng = np.random.default_rng(0)
      >>> x = rng.normal(size=(500, 1)) + 0.1 * rng.normal(size=(500, 3))  # three features that go together
      >>> detector = VAEDetector(hidden_dims=(8,), latent_dim=1, epochs=60, learning_rate=0.01).fit(x)
      >>> detector.predict([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
      array([ 1, -1])
    """

    def __init__(
        self,
        recipe: Recipe = "gaussian",
        hidden_dims: Sequence[int] = (20, 10, 8),
        latent_dim: int = 2,
        num_models: int = 1,
        epochs: int = 1000,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        kl_warmup: float = 0.8,
        input_noise: float = 0.3,
        report_weight: float = 10_000.0,
        limit: float = 10.0,
        num_samples: int = 100,
        boundary: str = "quantile",
        false_alarm_rate: float = thresholds.DEFAULT_FALSE_ALARM_RATE,
        validation_share: float = 0.1,
        patience: int | None = None,
        seed: int = 0,
        callback: Callable[[dict[str, float]], object] | None = None,
    ):
        """Keeps the options; `fit` checks them.

        Args:
          recipe: `gaussian` (negative evidence lower bound with learned variances) or `report` (weight * RMSE + KL).
          hidden_dims: widths of the encoder's hidden layers; the decoder has them reversed.
          latent_dim: number of latent dimensions.
          num_models: how many models to train as one program; the score is the mean of theirs.
          epochs: passes over the training rows.
          batch_size: rows in an optimiser step.
          learning_rate: of NAdam.
          kl_warmup: share of the epochs over which the gaussian recipe's KL weight rises from 0 to 1.
          input_noise: standard deviation of the noise on the encoder's input while the gaussian recipe trains, in units
            of standardised features.
          report_weight: weight of the RMSE in the report recipe.
          limit: standardised features are cut at ± this many standard deviations.
          num_samples: latent samples for the score of a row.
          boundary: rule that sets `offset_` from the scores of held-out rows: quantile, tukey, mad, mean-sigma or gpd.
          false_alarm_rate: share of normal rows that may be called anomalies, for the rules quantile and gpd.
          validation_share: share of the rows that `fit` holds out: for the boundary, and to choose the best epoch. If
            they are fewer than some hundreds, the choice flatters them, and more false alarms come than were asked for.
          patience: stop when the loss on held-out rows has not fallen for so many epochs after the KL warm-up; None
            trains all epochs.
          seed: of everything random.
          callback: called by `fit` after each epoch with its record: `epoch`, means over steps and models of `loss`,
            `reconstruction` and `kl`, and the same on held-out rows as `validation_loss` and so on.
        """
        self.recipe = recipe
        self.hidden_dims = hidden_dims
        self.latent_dim = latent_dim
        self.num_models = num_models
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.kl_warmup = kl_warmup
        self.input_noise = input_noise
        self.report_weight = report_weight
        self.limit = limit
        self.num_samples = num_samples
        self.boundary = boundary
        self.false_alarm_rate = false_alarm_rate
        self.validation_share = validation_share
        self.patience = patience
        self.seed = seed
        self.callback = callback

    def fit(self, X: Any, y: Any = None) -> VAEDetector:  # noqa: N803
        """Trains on rows that are taken to be normal, and sets the boundary on those held out.

        Args:
          X: shape (N, D), finite numbers, N at least 2: an array or a frame.
          y: ignored.

        Returns:
          The detector, with the parameters of the epoch that had the lowest loss on held-out rows.

        Raises:
          ValueError: for an option that can't be used, rows that can't be trained on, or a loss that is not finite.
        """
        self._check_options()
        for name in ("state_", "offset_"):
            vars(self).pop(name, None)  # or a fit that does not end would leave an older one's models with new units
        x = self._validated(X, reset=True)
        train, held_out = self._divide(len(x))
        self.scaler_ = Scaler.fit(x[train], self._names(), self.limit)
        standardised = self.scaler_.transform(x)
        state = self._train(recipes.compile_training(self, standardised[train], standardised[held_out]))
        return self.adopt(state, standardised[held_out], np.zeros(len(held_out), np.int64))

    def partial_fit(self, X: Any, y: Any = None) -> VAEDetector:  # noqa: N803
        """Goes on training for one pass over the given rows, and sets the boundary anew on those held out of them.

        The first call on a detector that is not fitted sets the standardisation; `epochs` is then the number of calls
        by which the KL warm-up is planned.

        Args:
          X: as for `fit`.
          y: ignored.

        Returns:
          The detector.

        Raises:
          ValueError: as for `fit`.
        """
        self._check_options()
        begun = hasattr(self, "state_")
        x = self._validated(X, reset=not begun)
        train, held_out = self._divide(len(x))
        if not begun:
            self.scaler_ = Scaler.fit(x[train], self._names(), self.limit)
        standardised = self.scaler_.transform(x)
        state = self._train_state() if begun else None
        training = recipes.compile_training(self, standardised[train], standardised[held_out], state)
        state, info = training.epoch(training.initial)
        _check_finite(info, "this pass")
        return self.adopt(state, standardised[held_out], np.zeros(len(held_out), np.int64))

    def describe_features(self, scaler: Scaler) -> None:
        """Takes over names and standardisation of the features, for training loops of your own; `adopt` comes next."""
        self.scaler_ = scaler
        self.n_features_in_ = len(scaler.feature_names)
        self.feature_names_in_ = np.array(scaler.feature_names, dtype=object)

    def adopt(
        self,
        state: TrainState,
        held_out: Float[np.ndarray, "M D"],
        labels: Int[np.ndarray, " M"],
    ) -> VAEDetector:
        """Takes over trained models, and sets the boundary: the end of `fit`, for training loops of your own.

        Call `describe_features` first.

        Args:
          state: K models, stacked along a first axis.
          held_out: standardised rows, float32.
          labels: 1 for anomalies among them, 0 for normal rows.

        Returns:
          The detector, fitted.
        """
        normal = held_out[labels == 0]
        arrays = {"step": state.step, "params": state.params, "opt_state": state.opt_state}
        self.state_ = jax.tree.map(np.asarray, jax.device_get(arrays))
        self.n_steps_ = int(self.state_["step"][0])
        self.kl_warmup_steps_ = state.objective.kl_warmup_steps
        self.residual_sd_ = recipes.residual_sds(self, self.vae_, self.params_, normal)
        means = recipes.posterior_means(self.vae_, self.params_, normal)
        self.active_latents_ = min(int(active_latents(of_model).sum()) for of_model in means)
        scores = self._mean_over_models(held_out, "log_reconstruction_prob")
        self.offset_ = thresholds.boundary(self.boundary, scores, labels, self.false_alarm_rate)
        self.false_alarm_share_ = float((scores[labels == 0] < self.offset_).mean())
        return self

    @property
    def vae_(self) -> VAE:
        """The network of all models."""
        return recipes.make_vae(self, self.n_features_in_)

    @property
    def params_(self) -> Any:
        """The parameters of K models, stacked along a first axis."""
        return self.state_["params"]

    def score_samples(self, X: Any) -> Float[np.ndarray, " N"]:  # noqa: N803
        """Scores rows.

        Args:
          X: shape (N, D), as for `fit`.

        Returns:
          The log reconstruction probability of each row, nats, float64, **higher = more normal**; with several models
          the mean of theirs.
        """
        return self._mean_over_models(self._standardised(X), "log_reconstruction_prob")

    def expected_log_prob(self, X: Any) -> Float[np.ndarray, " N"]:  # noqa: N803
        """Returns the mean over samples of log p(x|z), An & Cho's expectation; never above `score_samples`.

        Args:
          X: shape (N, D), as for `fit`.

        Returns:
          Shape (N,), nats, float64, higher = more normal; with several models the mean of theirs.
        """
        return self._mean_over_models(self._standardised(X), "mean_log_prob")

    def decision_function(self, X: Any) -> Float[np.ndarray, " N"]:  # noqa: N803
        """Returns `score_samples(X) - offset_`: below 0 is an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Int[np.ndarray, " N"]:  # noqa: N803
        """Returns +1 for normal rows and -1 for anomalies."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def explain(self, X: Any) -> pd.DataFrame:  # noqa: N803
        """Tells which features make a row unlikely.

        Args:
          X: shape (N, D), as for `fit`.

        Returns:
          A frame of shape (N, D): each feature's share of the row's expected negative log probability, nats, larger =
          more suspicious. A row's shares add up to `-expected_log_prob(X)`. Its index is that of `X` if that is a
          pandas frame.
        """
        import pandas as pd

        shares = -self._mean_over_models(self._standardised(X), "contributions")
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(shares, columns=list(self.scaler_.feature_names), index=index)

    def save(self, folder: str | Path, measures: Mapping[str, Any] | None = None) -> None:
        """Writes the detector into a folder, whole or not at all; see `model_folder.save`."""
        check_is_fitted(self)
        model_folder.save(self, Path(folder), measures or {})

    @classmethod
    def load(cls, folder: str | Path, feature_names: Sequence[str] | None = None) -> VAEDetector:
        """Reads a detector back, to the same scores; see `model_folder.load`."""
        return model_folder.load(cls, Path(folder), feature_names)

    def scorer(self, *what: str) -> Callable[[Float[np.ndarray, "N D"]], tuple[np.ndarray, ...]]:
        """Gets ready to score standardised rows by each model, see `recipes.scorer`."""
        return recipes.scorer(self, self.vae_, self.params_, self.residual_sd_, what)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def _mean_over_models(self, standardised: np.ndarray, what: str) -> np.ndarray:
        (by_model,) = self.scorer(what)(standardised)
        return by_model.astype(np.float64).mean(0)

    def _standardised(self, X: Any) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)
        return self.scaler_.transform(self._validated(X, reset=False))

    def _validated(self, X: Any, reset: bool) -> np.ndarray:  # noqa: N803
        least = FEWEST_ROWS if reset else 1
        return np.asarray(validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=least))

    def _names(self) -> tuple[str, ...]:
        names = getattr(self, "feature_names_in_", None)
        return tuple(f"x{i}" for i in range(self.n_features_in_)) if names is None else tuple(map(str, names))

    def _divide(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers to train on and to hold out, at least one of each."""
        if rows < FEWEST_ROWS:
            raise ValueError(f"n_samples={rows}: expected {FEWEST_ROWS} rows or more")
        order = np.random.default_rng(self.seed).permutation(rows)
        held_out = min(rows - 1, max(1, round(self.validation_share * rows)))
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    def _train(self, training: Training) -> TrainState:
        """Trains, and returns the models of the epoch with the lowest loss on held-out rows."""
        state, best = training.initial, training.initial
        lowest, since = np.inf, 0
        for epoch in range(1, self.epochs + 1):
            state, info = training.epoch(state)
            _check_finite(info, f"epoch {epoch}")
            validation = training.validate(state)
            loss = float(np.mean(validation["loss"]))
            if self.callback is not None:
                self.callback(_record(epoch, info, validation))
            if loss < lowest or epoch == 1:
                lowest, since, best = loss, 0, jax.tree.map(jnp.copy, state)
            elif int(state.step[0]) > state.objective.kl_warmup_steps:
                since += 1
            if self.patience is not None and since >= self.patience:
                break
        return best

    def _train_state(self) -> TrainState:
        """The models as they can be trained further."""
        objective = recipes.make_objective(self, self.kl_warmup_steps_)
        optimizer = recipes.make_optimizer(self.learning_rate)
        key = recipes.model_keys(self)
        return TrainState(**self.state_, key=key, vae=self.vae_, objective=objective, optimizer=optimizer)

    def _check_options(self) -> None:
        """Raises ValueError, naming the option, for a value that can't be used."""
        rules = [rule for rule in thresholds.RULES if rule != "best-f1"]  # which wants labels
        checks: list[tuple[str, Callable[[Any], bool], str]] = [
            ("recipe", lambda value: value in ("report", "gaussian"), "report or gaussian"),
            ("hidden_dims", lambda value: len(value) > 0 and all(map(_is_count, value)), "one or more widths above 0"),
            ("kl_warmup", lambda value: 0 <= value <= 1, "between 0 and 1"),
            ("input_noise", lambda value: 0 <= value < np.inf, "0 or more"),
            ("boundary", lambda value: value in rules, f"one of {', '.join(rules)}"),
            ("false_alarm_rate", lambda value: 0 < value < 1, "between 0 and 1"),
            ("validation_share", lambda value: 0 < value < 1, "between 0 and 1"),
            ("seed", lambda value: _is_whole(value) and 0 <= value < 2**32, "between 0 and 2^32 - 1"),
            ("patience", lambda value: value is None or _is_count(value), "a whole number above 0, or None"),
        ]
        for name in ("latent_dim", "num_models", "epochs", "batch_size", "num_samples"):
            checks.append((name, _is_count, "a whole number above 0"))
        for name in ("learning_rate", "report_weight", "limit"):
            checks.append((name, lambda value: 0 < value < np.inf, "more than 0"))
        for name, is_fine, expected in checks:
            value = getattr(self, name)
            try:
                fine = is_fine(value)
            except TypeError:  # not even a number
                fine = False
            if not fine:
                raise ValueError(f"{name}={value!r}: expected {expected}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _record(epoch: int, info: Mapping[str, Any], validation: Mapping[str, Any]) -> dict[str, float]:
    means = {name: float(np.mean(value)) for name, value in info.items()}
    return {"epoch": epoch, **means, **{f"validation_{name}": float(np.mean(v)) for name, v in validation.items()}}


def _check_finite(info: Mapping[str, Any], when: str) -> None:
    if not np.isfinite(np.asarray(info["loss"])).all():
        raise ValueError(f"the loss is not finite in {when}; try a smaller learning_rate")
