"""Options for quick compilation."""

from vae_jax import compilation


def test_an_option_that_this_version_does_not_know_is_left_out(monkeypatch):
    options = {"xla_backend_optimization_level": 1, "xla_no_such_option": True}
    monkeypatch.setattr(compilation, "QUICK", options)
    compilation._known.cache_clear()
    try:
        assert compilation._known() == {"xla_backend_optimization_level": 1}
        assert compilation.compile_quickly(lambda x: x + 1)(1) == 2
    finally:
        compilation._known.cache_clear()
