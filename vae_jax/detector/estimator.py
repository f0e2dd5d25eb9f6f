"""`VAEDetector`: anomalies in tables by variational autoencoders, with scikit-learn's interface."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from vae_jax import thresholds
from vae_jax.compilation import in_32_bits
from vae_jax.data.errors import CellError
from vae_jax.detector import exemplar, model_folder, passes, recipes
from vae_jax.detector.forks import refuse_forked_process
from vae_jax.detector.settings import LEFT_TO_RECIPE, Missing, Recipe, Resolved, SettingError, Settings, check
from vae_jax.networks import VAE
from vae_jax.tables.cells import as_frame, gaps_as_nan, is_numbers
from vae_jax.tables.kinds import Kind
from vae_jax.tables.scaling import Scaler
from vae_jax.tables.schema import Schema, numbers_of
from vae_jax.training import TrainState
from vae_jax.training.finite import first_not_finite
from vae_jax.training.step import ACTIVE_LATENT_VARIANCE

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float, Int
    from sklearn.utils import Tags

    from vae_jax.detector.exemplar import Exemplars
    from vae_jax.detector.recipes import Training
    from vae_jax.tables.gaussianise import Gaussianiser

FEWEST_ROWS = 2  # one to train on and one to set the boundary
ENOUGH = 1_000  # rows to set the boundary by; if fewer are held out, exemplars join them
# Settings that fitted models depend on: training can't continue with other values.
OF_FITTED_MODELS = ("recipe", "hidden_dims", "latent_dim", "num_models", "limit", "columns", "missing")


_READY: WeakKeyDictionary[VAEDetector, exemplar.Ready] = WeakKeyDictionary()  # outside of detectors and their pickles


@dataclass(eq=False, repr=False)  # for __init__ only; scikit-learn has its own repr, and estimators compare by identity
class VAEDetector(OutlierMixin, BaseEstimator):
    """Finds anomalies in a table by their probability under small variational autoencoders.

    Fit it on rows that are all, or nearly all, normal, or say what share of them is not (`contamination`). Scores are
    in nats, **higher = more normal**; a row with a score below `offset_` is an anomaly. A score depends only on the
    fitted model and the row: not on the other rows, their order or the devices.

    The recipe `exemplar`, the default, holds up to 16,384 of its training rows; its score is a weighted mean of log
    densities, see [`Exemplars`][vae_jax.detector.exemplar.Exemplars]. With `recipe="gaussian"`, or `"report"` for a
    table of finite numbers alone, scores are log reconstruction probabilities.

    The table may hold numbers, counts, words, yes and no, dates and gaps (NaN, None, pandas' NA, blanks and words like
    NA): an array, or a frame of pandas, Polars or the like. Each column gets a kind, and a density or probabilities of
    its own; a gap is left out, so that the score is over what the row has. The kinds are inferred from the training
    rows, see `schema_`; `columns` sets them. Numbers are standardised, so units do not matter.

    Arguments besides these two are described in [`Settings`][vae_jax.detector.settings.Settings]; `fit` checks them.

    Args:
      random_state: another name for `seed`, which it overrides; None leaves that.
      callback: called by `fit` after each epoch with its record: `epoch`, means over steps and models of `loss`,
        `reconstruction` and `kl`, and the same on held-out rows as `validation_loss` and so on.

    Attributes:
      settings_: the settings it was fitted with; it scores by these, even after `set_params`.
      offset_: the boundary, nats, float.
      features_: how rows become numbers: a `Scaler` for a table of finite numbers alone, else a `Schema`.
      scaler_: the `Scaler`; None if there is a schema.
      schema_: the `Schema`, with the columns' kinds; None for a table of finite numbers alone.
      state_: the K trained models, stacked along a first axis: NumPy arrays under `step`, `params` and `opt_state`.
      exemplars_: the kernels and how their densities are pooled, `Exemplars`; None in the other recipes.
      decision_scores_, labels_, threshold_: after a fit with `contamination`, as PyOD has them: minus the scores of the
        training rows, higher = more anomalous; 1 for anomalies among them, else 0; minus `offset_`.
      kl_warmup_steps_: optimiser steps over which the KL weight rises in the `gaussian` recipe.
      residual_sd_: standard deviation of each model's features, shape (K, D), in units of standardised features; None
        except in the `report` recipe: other decoders give their own.
      n_steps_: optimiser steps that the models were trained for.
      active_latents_: how many latents the models use on held-out rows, or where there is only one on training rows,
        the fewest of any model; 0 is posterior collapse.
      false_alarm_share_: share of the rows that set the boundary that are below it; after a fit with `contamination` of
        the held-out rows.
      n_features_in_: number of features D.
      feature_names_in_: their names, where `fit` was given a frame.

    References:
      An & Cho 2015, "Variational Autoencoder based Anomaly Detection using Reconstruction Probability", algorithm 4.
      Norouzi et al. 2020, "Exemplar VAE", https://arxiv.org/abs/2004.04795, eq. 3.
      Kingma & Welling 2013, https://arxiv.org/abs/1312.6114.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import VAEDetector
      >>> rng = np.random.default_rng(0)
      >>> x = rng.normal(size=(500, 1)) + 0.1 * rng.normal(size=(500, 3))  # three features that go together
      >>> detector = VAEDetector().fit(x)
      >>> detector.predict([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
      array([ 1, -1])
    """

    recipe: Recipe | None = Settings.recipe
    hidden_dims: Sequence[int] | None = Settings.hidden_dims
    latent_dim: int | None = Settings.latent_dim
    num_models: int | None = Settings.num_models
    epochs: int | None = Settings.epochs
    batch_size: int = Settings.batch_size
    learning_rate: float | None = Settings.learning_rate
    kl_warmup: float | None = Settings.kl_warmup
    input_noise: float | None = Settings.input_noise
    report_weight: float = Settings.report_weight
    limit: float = Settings.limit
    num_samples: int = Settings.num_samples
    boundary: str = Settings.boundary
    false_alarm_rate: float = Settings.false_alarm_rate
    validation_share: float = Settings.validation_share
    columns: Mapping[str, Kind] | None = Settings.columns
    missing: Missing = Settings.missing
    patience: int | None = Settings.patience
    seed: int = Settings.seed
    contamination: float | None = Settings.contamination
    random_state: int | np.random.RandomState | None = None
    callback: Callable[[dict[str, float]], object] | None = None

    @in_32_bits
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> VAEDetector:  # noqa: N803
        """Trains on rows that are taken to be normal, and sets the boundary on those it holds out.

        If these are fewer than 1,000, the `exemplar` recipe adds exemplars, each scored without its own kernel.

        Args:
          X: shape (N, D), N at least 2: an array or a frame.
          y: ignored.
          sample_weight: shape (N,), 0 or more, how much each row counts in training, in the `exemplar` recipe; rows of
            weight 0 are left out. None counts all alike.

        Returns:
          The detector: in the `exemplar` recipe after the last epoch, in the others, or with `patience`, with the
          parameters of the epoch that had the lowest loss on held-out rows.

        Raises:
          ValueError: for a setting or rows that can't be used, or a loss that is not finite.
          RuntimeError: in a process that was forked after JAX was used, where it would hang.
        """
        settings = self._settings_without_labels()
        refuse_forked_process()
        for name in ("state_", "offset_", "decision_scores_", "labels_"):
            vars(self).pop(name, None)  # an interrupted fit leaves no model
        after = copy.copy(self)  # or it would leave new models with another boundary, or without exemplars
        after._fit(X, settings, sample_weight)
        return self._become(after)

    def _fit(self, X: Any, settings: Settings, sample_weight: Any) -> None:  # noqa: N803
        every, weights = X, None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            if not weights.any():  # scikit-learn checks it from version 1.9 on
                raise ValueError("sample_weight: at least one non-zero number is needed")
            with np.errstate(over="ignore"):
                if not np.isfinite(weights.sum()):
                    raise ValueError("sample_weight: the sum is beyond the largest number; divide the weights")
            if not weights.all():
                X = _safe_indexing(X if hasattr(X, "shape") else np.asarray(X), np.flatnonzero(weights))
                weights = weights[weights > 0]
        rows, train, held_out = self._begin(X, settings)
        settings = settings.resolved(len(train), rows.shape[1])
        if weights is not None and settings.recipe != "exemplar":
            raise ValueError(f"sample_weight: the {settings.recipe} recipe takes none; use exemplar")
        self._fit_rows(rows, train, held_out, settings, weights)
        if settings.contamination is None:
            self._set_boundary_by_exemplars(settings, rows[held_out])
        else:
            scores = self._training_scores(rows, train)
            kept = scores >= np.quantile(scores, settings.contamination, method="higher")
            for rows_of in (train, held_out):  # of few rows the least likely share may be all of a part
                kept[rows_of[scores[rows_of].argmax()]] = True
            self._fit_rows(rows, train[kept[train]], held_out[kept[held_out]], settings, weights)
            scores = self.score_encoded(rows)
            self.offset_ = -float(np.quantile(-scores, 1 - settings.contamination))
            self.false_alarm_share_ = float((scores[held_out] < self.offset_).mean())
            self.decision_scores_ = -(scores if X is every else self.score_encoded(self._encoded(every)))
            self.labels_ = (self.decision_scores_ > self.threshold_).astype(np.int64)

    def _fit_rows(
        self,
        rows: np.ndarray,
        train: np.ndarray,
        held_out: np.ndarray,
        settings: Resolved,
        weights: np.ndarray | None,
    ) -> None:
        """Trains on some of the encoded rows, and sets the boundary on others."""
        of_train = None if weights is None else weights[train]
        training = recipes.compile_training(
            settings, rows[train], rows[held_out], columns=self._columns(rows[train]), weights=of_train
        )
        state = self._train(training, settings)
        labels = np.zeros(len(held_out), np.int64)
        self._adopt(
            settings, state, rows[held_out], labels, rows[train], weights=of_train, gaussianiser=training.gaussianiser
        )

    def _set_boundary_by_exemplars(self, settings: Resolved, held_out: np.ndarray) -> None:
        """Sets the boundary on exemplars, too, each scored without its own kernel, where few rows are held out."""
        if self.exemplars_ is None or len(held_out) >= ENOUGH:
            return
        order = np.random.default_rng([settings.seed, 3]).permutation(len(self.exemplars_.rows))
        own = exemplar.score_exemplars(self._ready(self.exemplars_), order[: ENOUGH - len(held_out)])
        scores = np.concatenate([self.score_encoded(held_out), own[np.isfinite(own)]])  # an only one has no score
        self._set_boundary(settings, scores, np.zeros(len(scores), np.int64))

    def _set_boundary(self, settings: Resolved, scores: np.ndarray, labels: np.ndarray) -> None:
        self.offset_ = thresholds.boundary(settings.boundary, scores, labels, settings.false_alarm_rate)
        self.false_alarm_share_ = float((scores[labels == 0] < self.offset_).mean())

    @in_32_bits
    def partial_fit(self, X: Any, y: Any = None) -> VAEDetector:  # noqa: N803
        """Continues training for one pass over the given rows, and sets the boundary again on those it holds out.

        The first call on an unfitted detector sets the standardisation; `epochs` is then the number of calls over which
        the KL warm-up is planned, and in the `exemplar` recipe the fall of the learning rate. Beyond them, as after
        `fit`, that recipe trains with a tenth of the learning rate. It adds the rows to its exemplars, by which it also
        sets the boundary, as `fit` does: if those become too many, all rows of all calls have one chance to be among
        them. Other recipes set the boundary on rows of this call alone, so give them thousands. Later calls may change
        settings, except `recipe`, `hidden_dims`, `latent_dim`, `num_models`, `limit`, `columns` and `missing`.

        Args:
          X: as for `fit`.
          y: ignored.

        Returns:
          The detector.

        Raises:
          ValueError: as for `fit`; and for gaps, if it was fitted to a table of finite numbers alone.
        """
        settings = self._settings_without_labels()
        if settings.contamination is not None:
            raise SettingError("contamination", settings.contamination, "None in partial_fit")
        refuse_forked_process()
        before = None
        if hasattr(self, "state_"):
            (rows, gaps), before = self._read(X, FEWEST_ROWS), self.exemplars_
            if gaps and self.schema_ is None:
                raise ValueError(f"{_gaps_notice(gaps)}; leave them out, or `fit` on a table with gaps")
            train, held_out = _divide(len(rows), settings)
            settings = settings.resolved(len(train), rows.shape[1])
            _check_unchanged(settings, self.settings_)
            state = self._train_state(settings)
        else:
            (rows, train, held_out), state = self._begin(X, settings), None
            settings = settings.resolved(len(train), rows.shape[1])
        columns = self._columns(rows[train])
        gaussianiser = before.gaussianiser if before else None
        training = recipes.compile_training(settings, rows[train], rows[held_out], state, columns, gaussianiser)
        state, info = training.epoch(training.initial)
        _check_finite(info, "this pass")
        for name in ("decision_scores_", "labels_"):  # of other models
            vars(self).pop(name, None)
        labels = np.zeros(len(held_out), np.int64)
        after = copy.copy(self)  # or an interrupted call would leave new models with old exemplars
        after._adopt(settings, state, rows[held_out], labels, rows[train], before, gaussianiser=training.gaussianiser)
        after._set_boundary_by_exemplars(settings, rows[held_out])
        return self._become(after)

    def _become(self, other: VAEDetector) -> VAEDetector:
        """Takes over what another has learned, all at once."""
        vars(self).update(vars(other))
        if ready := _READY.pop(other, None):
            _READY[self] = ready
        return self

    def describe_features(self, features: Scaler | Schema) -> None:
        """Takes the features' names and how rows become numbers, for training loops of your own; call `adopt` next."""
        self.features_ = features
        names = features.feature_names
        self.n_features_in_, self.feature_names_in_ = len(names), np.array(names, dtype=object)

    @in_32_bits
    def adopt(
        self,
        state: TrainState,
        held_out: Float[np.ndarray, "M D"],
        labels: Int[np.ndarray, " M"],
        train: Float[np.ndarray, "N D"] | None = None,
    ) -> VAEDetector:
        """Takes trained models and sets the boundary: the end of `fit`, for training loops of your own.

        Call `describe_features` first.

        Args:
          state: K models, stacked along a first axis.
          held_out: standardised rows, float32, or rows of a schema's parts.
          labels: 1 for anomalies among them, 0 for normal rows.
          train: the standardised training rows, float32, which the `exemplar` recipe needs.

        Returns:
          The detector, fitted.
        """
        settings = self._settings()
        settings = settings.resolved(len(held_out if train is None else train), held_out.shape[1])
        return self._adopt(settings, state, held_out, labels, train)

    def _adopt(
        self,
        settings: Resolved,
        state: TrainState,
        held_out: np.ndarray,
        labels: np.ndarray,
        train: np.ndarray | None,
        before: Exemplars | None = None,
        weights: np.ndarray | None = None,
        gaussianiser: Gaussianiser | None = None,
    ) -> VAEDetector:
        self.settings_ = settings
        normal = held_out[labels == 0]
        arrays = {"step": state.step, "params": state.params, "opt_state": state.opt_state}
        self.state_ = jax.tree.map(np.asarray, jax.device_get(arrays))
        self.n_steps_ = int(self.state_["step"][0])
        self.kl_warmup_steps_ = state.objective.kl_warmup_steps
        self.residual_sd_ = recipes.residual_sds(settings, self.vae_, self.params_, normal)
        self.exemplars_ = recipes.choose_exemplars(
            settings, self.vae_, self.params_, train, normal, before, weights, gaussianiser
        )
        varied = train if len(normal) == 1 and train is not None else normal  # a single row has no variance
        means = recipes.posterior_means(self.vae_, self.params_, varied, self.exemplars_)
        self.active_latents_ = min(int((of_model.var(0) > ACTIVE_LATENT_VARIANCE).sum()) for of_model in means)
        if self.schema_ is not None:
            # Of many rows every second, third ... by exemplars, which explain fewer in a second than networks.
            some = normal[:: -(-len(normal) // exemplar.MOST_MEASURED)] if self.exemplars_ else normal
            shares = self.shares_encoded(some)
            given = np.maximum((shares != 0).sum(0), 1)  # the share of a gap is 0
            self.typical_shares_ = [round(float(share), 6) for share in shares.sum(0) / given]
        self._set_boundary(settings, self.score_encoded(held_out), labels)
        return self

    @property
    def threshold_(self) -> float:
        """The boundary as PyOD has it: minus `offset_`."""
        return -self.offset_

    @property
    def scaler_(self) -> Scaler | None:
        """The standardisation of a table of finite numbers alone."""
        return self.features_ if isinstance(self.features_, Scaler) else None

    @property
    def schema_(self) -> Schema | None:
        """The columns' kinds, of any other table."""
        return self.features_ if isinstance(self.features_, Schema) else None

    @property
    def vae_(self) -> VAE:
        """The network of all models."""
        return recipes.make_vae(self.settings_, self.n_features_in_, self.schema_.layout if self.schema_ else None)

    @property
    def params_(self) -> Any:
        """The parameters of K models, stacked along a first axis."""
        return self.state_["params"]

    def score_samples(self, X: Any) -> Float[np.ndarray, " N"]:  # noqa: N803
        """Scores rows.

        Args:
          X: shape (N, D), as for `fit`, but of any number of rows, also none.

        Returns:
          The pooled log density (`exemplar` recipe) or log reconstruction probability of each row, nats, float64,
          **higher = more normal**; with several models the mean of theirs.
        """
        return self.score_encoded(self._encoded(X))

    def expected_log_prob(self, X: Any) -> Float[np.ndarray, " N"]:  # noqa: N803
        """Returns the mean over latent samples of log p(x|z), An & Cho's expectation; never above `score_samples`.

        In the `exemplar` recipe it is the log pseudo-likelihood: the sum of the log densities of each feature given the
        row's other features, under near kernels.

        Args:
          X: shape (N, D), as for `fit`.

        Returns:
          Shape (N,), nats, float64, higher = more normal; with several models the mean of theirs.
        """
        return self._mean_over_models(self._encoded(X), "mean_log_prob")

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
          A frame of shape (N, D), without the columns that are left out: each feature's share of the row's expected
          negative log probability, nats, larger = more suspicious, 0 for a gap; in the `exemplar` recipe, how unlikely
          it is given the row's other features. A row's shares add up to `-expected_log_prob(X)`. Its index is that of
          `X` if that is a pandas frame.
        """
        import pandas as pd

        shares = self.shares_encoded(self._encoded(X))
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(shares, columns=list(self.features_.modelled), index=index)

    def reasons(self, X: Any, strongest: int = 3) -> list[list[str]]:  # noqa: N803
        """Tells in words which cells make a row unlikely.

        Args:
          X: shape (N, D), as for `fit`.
          strongest: how many cells of each row to name.

        Returns:
          For each row, sentences such as 'merchant = casino: 4.1 nats; 0.3 % of training rows'. First comes the cell
          whose share of the row's negative log probability is furthest above the mean of given cells in held-out normal
          rows.

        Examples:
          >>> import numpy as np
          >>> import pandas as pd
          >>> from vae_jax import VAEDetector
          >>> rng = np.random.default_rng(0)
          >>> table = pd.DataFrame({"city": rng.choice(["Rome", "Oslo"], 400), "paid": rng.normal(50, 5, 400)})
          >>> detector = VAEDetector(hidden_dims=(8,), latent_dim=1, epochs=5).fit(table)
          >>> ((reason,),) = detector.reasons(pd.DataFrame({"city": ["Bern"], "paid": [50.0]}), strongest=1)
          >>> reason.split(":")[0]
          'city = Bern'
        """
        shares = self.explain(X)
        names = list(self.features_.feature_names)
        frame = as_frame(X, names)
        frame = frame.set_axis(names, axis=1)  # a frame's own may be numbers
        found = []
        for i, columns in enumerate(self.most_suspicious(shares.to_numpy(), strongest)):
            of_row = shares.columns[columns]
            found.append([self.reason(name, frame[name].iloc[i], shares[name].iloc[i]) for name in of_row])
        return found

    def reason(self, name: str, cell: Any, share: float) -> str:
        """Returns the sentence of `reasons` about a cell, given its share in nats."""
        value = f"{cell:.6g}" if isinstance(cell, float | np.floating) else str(cell)
        remark, nats = self.features_.remark(name, cell), f"{round(share, 1) + 0.0:.1f} nats"  # 0.0, not -0.0
        return f"{name} = {value[:40]}: {nats}; {remark}" if remark else f"{name} is missing: {nats}"

    def most_suspicious(self, shares: Float[np.ndarray, "N C"], strongest: int) -> np.ndarray:
        """Returns the places of each row's most suspicious columns, shape (N, strongest), by shares of `explain`.

        Shares of a table of numbers are compared as they are. Where columns are of different kinds or have gaps, their
        means over the given cells of held-out normal rows are subtracted: a category of many levels has a large share
        in every row.
        """
        if not isinstance(strongest, int | np.integer) or strongest < 0:
            raise SettingError("strongest", strongest, "a whole number, 0 or more")
        typical = self.typical_shares_ if self.schema_ else 0.0
        return np.argsort(typical - shares, axis=1, kind="stable")[:, :strongest]

    def save(
        self, folder: str | Path, measures: Mapping[str, Any] | None = None, head: Mapping[str, Any] | None = None
    ) -> None:
        """Writes the detector into a folder, whole or not at all; see `model_folder.save`."""
        check_is_fitted(self)
        fitted = model_folder.Fitted(
            settings=self.settings_,
            features=self.features_,
            state=self.state_,
            residual_sd=self.residual_sd_,
            named_features=hasattr(self, "feature_names_in_"),
            measured={name: getattr(self, name) for name in model_folder.MEASURED},
            typical_shares=self.typical_shares_ if self.schema_ else None,
            exemplars=self.exemplars_,
            unset=tuple(name for name in LEFT_TO_RECIPE if getattr(self, name) is None),
        )
        model_folder.save(fitted, Path(folder), measures or {}, head or {})

    @classmethod
    @in_32_bits
    def load(cls, folder: str | Path, feature_names: Sequence[str] | None = None) -> VAEDetector:
        """Reads a detector back, to the same scores, ready for more training; see `model_folder.load`.

        Arguments that were None are None again. In a folder of an earlier version they have the values that they had in
        its `fit`, which may not suit a table of another size.
        """
        fitted = model_folder.load(Path(folder), feature_names)
        detector = cls(**{**vars(fitted.settings), **dict.fromkeys(fitted.unset)})
        detector.describe_features(fitted.features)
        vars(detector).update(fitted.measured)
        if not fitted.named_features:
            del detector.feature_names_in_
        detector.settings_ = fitted.settings
        detector.state_, detector.residual_sd_ = fitted.state, fitted.residual_sd
        detector.exemplars_ = fitted.exemplars
        if fitted.typical_shares is not None:
            detector.typical_shares_ = fitted.typical_shares
        return detector

    def scorer(self, *what: str) -> Callable[[Float[np.ndarray, "N D"]], tuple[np.ndarray, ...]]:
        """Gets ready to score standardised rows by each model, see `recipes.scorer`."""
        refuse_forked_process()
        ready = self._ready(self.exemplars_) if self.exemplars_ else None
        return recipes.scorer(self.settings_, self.vae_, self.params_, self.residual_sd_, what, ready)

    def _ready(self, exemplars: Exemplars) -> exemplar.Ready:
        """Its exemplars on the devices; kept, because placing them takes longer than scoring a few rows."""
        ready = _READY.get(self)
        if ready is None or ready.exemplars is not exemplars:
            ready = _READY[self] = exemplar.Ready.of(exemplars)
        return ready

    def score_encoded(self, rows: Float[np.ndarray, "N P"]) -> Float[np.ndarray, " N"]:
        """`score_samples` of rows as `scaler_` or `schema_` makes them."""
        return self._mean_over_models(rows, "log_reconstruction_prob")

    def shares_encoded(self, rows: Float[np.ndarray, "N P"]) -> Float[np.ndarray, "N C"]:
        """`explain`, as an array, of rows as `scaler_` or `schema_` makes them."""
        shares = 0.0 - self._mean_over_models(rows, "contributions")  # a gap's is 0, not -0
        return self.schema_.by_column(shares) if self.schema_ else shares

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    @in_32_bits
    def _mean_over_models(self, standardised: np.ndarray, what: str) -> np.ndarray:
        (by_model,) = self.scorer(what)(standardised)
        return by_model.astype(np.float64).mean(0)

    def _begin(self, X: Any, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: N803
        """Learns what the features are; returns rows for a model, and the row numbers to train on and to hold out."""
        numbers_alone = not settings.columns and is_numbers(X)
        if numbers_alone:
            x = self._validated(X, reset=True)
            if not np.isnan(x).any():
                train, held_out = _divide(len(x), settings)
                self.features_ = scaler = Scaler.fit(x[train], self._names(), settings.limit)
                return scaler.transform(x), train, held_out
        if settings.recipe == "report":
            raise SettingError("recipe", "report", "exemplar or gaussian, for a table that is not all finite numbers")
        validate_data(self, X, reset=True, skip_check_array=True)
        frame = as_frame(X)
        self.n_features_in_ = frame.shape[1]
        train, held_out = _divide(len(frame), settings)
        # In a table of numbers alone all are real, as they are without gaps.
        said: Mapping[str, Kind] | None = settings.columns
        if numbers_alone:
            said = dict.fromkeys(map(str, frame.columns), "real")
        self.features_ = schema = Schema.fit(frame.iloc[train], said, settings.missing, settings.limit)
        return schema.transform(frame), train, held_out

    def _training_scores(self, rows: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Scores of all encoded rows; those of training rows as if they were not among the exemplars."""
        if self.exemplars_ is None:
            return self.score_encoded(rows)
        own = np.full(len(rows), -1)
        own[train[self.exemplars_.numbers]] = np.arange(len(self.exemplars_.numbers))
        return exemplar.score(self._ready(self.exemplars_), rows, own)

    def _columns(self, train: np.ndarray) -> recipes.Columns | None:
        return recipes.columns_of(self.schema_, train) if self.schema_ else None

    def _encoded(self, X: Any) -> np.ndarray:  # noqa: N803
        """Rows for a model; warns of gaps in columns that had none in training, and of rows without any cell."""
        rows, gaps = self._read(X)
        if gaps:
            warnings.warn(new_gaps_notice(gaps), stacklevel=3)
        if len(empty := np.flatnonzero(np.isnan(rows).all(1))):
            count = f"{len(empty):,} {'row' if len(empty) == 1 else 'rows'}"
            warnings.warn(
                f"no cell is given in {count}, first in row {empty[0]}; the score, 0, tells nothing", stacklevel=3
            )
        return rows

    def _read(self, X: Any, least: int = 0) -> tuple[np.ndarray, dict[str, int]]:  # noqa: N803
        """Rows for a model, and how many have gaps in columns that had none in training."""
        check_is_fitted(self)
        if isinstance(self.features_, Schema):
            validate_data(self, X, reset=False, skip_check_array=True)
            rows = self.features_.transform(X)
            return rows, self.features_.new_gaps(rows)
        x = self._validated(X, reset=False, least=least)
        return self.features_.transform(x), self.features_.new_gaps(x)

    def _validated(self, X: Any, reset: bool, least: int = FEWEST_ROWS) -> np.ndarray:  # noqa: N803
        """Numbers alone, as they are: float64, NaN for a gap."""
        import pandas as pd

        given: dict[str, Any] = {"dtype": np.float64, "ensure_min_samples": least, "ensure_all_finite": False}
        if reset or is_numbers(X):
            found = np.asarray(validate_data(self, gaps_as_nan(X), reset=reset, **given))
        else:
            validate_data(self, X, reset=False, skip_check_array=True)
            found = numbers_of(X, self.features_.feature_names, self.features_.number_format)
        infinite = np.isinf(found)
        if infinite.any():
            row, column = np.argwhere(infinite)[0].tolist()
            row = X.index[row] if isinstance(X, pd.DataFrame) else row
            raise CellError(row, self._names()[column], "infinity is no number")
        return found

    def _names(self) -> tuple[str, ...]:
        names = getattr(self, "feature_names_in_", None)
        return tuple(f"x{i}" for i in range(self.n_features_in_)) if names is None else tuple(map(str, names))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _settings(self) -> Settings:
        settings = Settings.of(self)
        if self.random_state is not None:
            seed = self.random_state
            if not isinstance(seed, int | np.integer):
                seed = check_random_state(seed).randint(2**31)
            settings = replace(settings, seed=int(seed))
            check(settings)
        return settings

    def _settings_without_labels(self) -> Settings:
        settings = self._settings()
        if settings.boundary == "best-f1":
            rules = [rule for rule in thresholds.RULES if rule != "best-f1"]
            raise SettingError("boundary", "best-f1", f"a rule that needs no labels: {', '.join(rules)}")
        return settings

    def _train(self, training: Training, settings: Resolved) -> TrainState:
        """Trains, and returns the models of the epoch with the lowest loss on held-out rows, or of the last."""
        state, best = training.initial, training.initial
        lowest, since = np.inf, 0
        chooses = settings.recipe != "exemplar" or settings.patience is not None
        if not chooses and self.callback is None:
            state, info = training.epoch(state, settings.epochs)
            _check_finite(info, f"epochs 1 to {settings.epochs}")
            return state
        for epoch in range(1, settings.epochs + 1):
            state, info = training.epoch(state)
            _check_finite(info, f"epoch {epoch}")
            validation = training.validate(state)
            loss = float(np.mean(validation["loss"]))
            if np.isnan(loss):
                raise ValueError(f"the loss of the held-out rows is not a number in epoch {epoch}")
            if self.callback is not None:
                self.callback(_record(epoch, info, validation))
            if not chooses:
                continue
            if settings.recipe == "exemplar":  # whose objective knows of no warm-up; in it this loss rises
                lowest = np.inf if epoch <= settings.kl_warmup * settings.epochs else lowest
            if loss < lowest or epoch == 1:
                lowest, since, best = loss, 0, jax.tree.map(jnp.copy, state)
            elif int(state.step[0]) > state.objective.kl_warmup_steps:
                since += 1
            if settings.patience is not None and since >= settings.patience:
                break
        return best if chooses else state

    def _train_state(self, settings: Resolved) -> TrainState:
        """The models as they can be trained further."""
        if settings.recipe == "exemplar":
            return exemplar.train_state(settings, self.vae_, self.state_)
        layout = self.schema_.layout if self.schema_ else None
        objective = recipes.make_objective(settings, self.kl_warmup_steps_, layout)
        optimizer = passes.make_optimizer(settings.learning_rate)
        key = recipes.model_keys(settings)
        return TrainState(**self.state_, key=key, vae=self.vae_, objective=objective, optimizer=optimizer)


def _divide(rows: int, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row numbers to train on and to hold out, at least one of each."""
    if rows < FEWEST_ROWS:
        raise ValueError(f"n_samples={rows}: expected {FEWEST_ROWS} rows or more")
    order = np.random.default_rng(settings.seed).permutation(rows)
    held_out = min(rows - 1, max(1, round(settings.validation_share * rows)))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _check_unchanged(settings: Resolved, fitted: Resolved) -> None:
    """Raises SettingError if the settings need other models than the fitted ones."""
    for name in OF_FITTED_MODELS:
        value, expected = getattr(settings, name), getattr(fitted, name)
        if value != expected:
            raise SettingError(name, value, f"{expected!r}, as in the fitted models; `fit` trains others")


def new_gaps_notice(gaps: Mapping[str, int]) -> str:
    """Says which columns have gaps that had none in training, given the number of rows."""
    return f"{_gaps_notice(gaps)}; these rows are scored by their other cells"


def _gaps_notice(gaps: Mapping[str, int]) -> str:
    found = ", ".join(f"{name} ({count:,} {'row' if count == 1 else 'rows'})" for name, count in gaps.items())
    return f"gaps in columns that had none in training: {found}"


def _record(epoch: int, info: Mapping[str, Any], validation: Mapping[str, Any]) -> dict[str, float]:
    means = {name: float(np.mean(value)) for name, value in info.items()}
    return {"epoch": epoch, **means, **{f"validation_{name}": float(np.mean(v)) for name, v in validation.items()}}


def _check_finite(info: Mapping[str, Any], when: str) -> None:
    if failure := first_not_finite(info):
        raise ValueError(f"the {failure[1]} is not finite in {when}; try a smaller learning_rate")
