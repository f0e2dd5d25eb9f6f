#!/usr/bin/env bash
# Entry point to everything: makes the environment on first use, then runs a command. `bash run.sh help` lists them.
set -euo pipefail
root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
venv="$root/.venv"
bench_venv="$root/.venv-bench"
lower_venv="$root/.venv-lower"
oldest_venv="$root/.venv-oldest"
export PYTHONSAFEPATH=1 # or Python would look for modules where the user is, who may have a jax.py there

usage() {
  cat <<'TEXT'
usage: bash run.sh COMMAND [options]

  fraud         train on card transactions, or a table of your own; find anomalies, plot and report
  celeba        train on faces; reconstruct, generate, measure, plot and report
  mnist         reproduce two papers' figures on MNIST: log p(x) of VAEs and IWAEs, and the bound by latents
  an-cho        reproduce An & Cho 2015: anomalous digits and network attacks by reconstruction probability
  score         score your own rows with a model saved by fraud or by VAEDetector
  faces         make pictures with a trained face model: sample, reconstruct, interpolate, traverse, edit
  explore       look into finished runs in the browser: draw and edit faces, move the boundary of transactions
  export        a trained model as ONNX (any language, browsers) or StableHLO (JAX alone)
  sweep         compare weights of the reconstruction term in fraud's report recipe
  celeba-sweep  compare weights of the reconstruction term in celeba
  adbench       compare detectors on the 43 tables of ADBench with published figures
  bench         compare speed with PyTorch, Keras and the machine's limits
  lower         compile every program for an H100 and for TPUs, without having one
  faults        break runs, disks and input in every way, and count what is survived
  test          run the tests; arguments go to pytest
  oldest        run the tests with the oldest versions that are allowed
  check         lint; check formatting, types and import order
  docs          build the documentation in site/; docs serve previews it as you write
  help          show this text

Every command except test, oldest, check, docs and help lists its options with --help.

The first call makes an environment in .venv and installs the requirements; later calls start at once. The PyTorch and
Keras that bench compares with get their own environment, .venv-bench, the compilers of lower get .venv-lower, what
export needs .venv-export, explore, with Gradio, .venv-explore, score --engine ray .venv-cluster, and the versions of
oldest .venv-oldest.

  VAE_JAX_PYTHON=PATH        use this Python as it is, and install nothing
  VAE_JAX_BENCH_PYTHON=PATH  use this Python, as it is, for PyTorch and Keras in bench
  VAE_JAX_DATA=DIR           folder with creditcard/creditcard.csv, celeba/, mnist/, kdd99/ and adbench/
TEXT
}

fail() {
  echo "error: $1" >&2
  exit "${2:-2}"
}

# The JAX build for this machine, as an extra of the jax package.
jax_extra() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "[cuda12]"
  elif compgen -G '/dev/accel*' >/dev/null || [ -n "${TPU_NAME:-}" ]; then
    echo "[tpu]"
  fi
}

# Prints which of the packages that everything needs an existing interpreter lacks.
find_missing='
from importlib.util import find_spec
import sys
needed = """jax flax optax orbax safetensors numpy pandas pyarrow openpyxl narwhals sklearn matplotlib PIL grain dm_pix
            tyro rich jinja2 tensorboardX""".split() + sys.argv[1:]
print(", ".join(name for name in needed if not find_spec(name)))
'

require_python() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed; $1 is $("$1" --version 2>&1 | head -n 1). Name another with VAE_JAX_PYTHON"
}

# The package index that has PyTorch for processors alone: PyPI's own build brings gigabytes for GPUs. Asked for seconds
# only; without it PyPI's serves as well.
torch_index() {
  local index=https://download.pytorch.org/whl/cpu
  if [ -z "$(jax_extra)" ] && python3 - "$index/torch/" 2>/dev/null <<<'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5)
'; then
    echo "$index"
  fi
}

# Whether an environment's Python runs and has a folder of packages: it has none once the system replaces 3.11 by 3.12.
has_packages() {
  "$1/bin/python" -c '
import os, sys, sysconfig
sys.exit(not os.path.isdir(sysconfig.get_path("purelib")))
' 2>/dev/null
}

# Whether packages can be installed into an environment: not if the first call was killed while it installed pip.
takes_packages() {
  command -v uv >/dev/null || "$1/bin/python" -m pip --version &>/dev/null
}

# install VENV FILE [INDEX]: installs a requirements file into an environment, with an extra package index if one is
# named, unless that was done already with the same contents.
install() {
  local venv="$1" file="$2" index="${3:-}" extra stamp wanted name
  name="$(basename "$file")"
  extra="$(jax_extra)"
  stamp="$venv/.installed-${name%.txt}"
  wanted="$(sed "s/^jax\[cuda12\]/jax$extra/" "$file")"
  [ "$extra" = "[cuda12]" ] || wanted="${wanted/"[and-cuda]"/}"
  if has_packages "$venv" && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  (
    if command -v flock >/dev/null; then
      flock 9 # two first calls at once must not install over each other
    fi
    if ! has_packages "$venv" || ! takes_packages "$venv"; then
      echo "making the environment in $venv" >&2
      rm -rf "$venv"
      if command -v uv >/dev/null; then
        uv venv --quiet --python '>=3.11' "$venv"
      else
        require_python python3
        python3 -m venv "$venv"
      fi
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
      echo "installing $name${extra:+ for $extra}, once" >&2
      if command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" \
          ${index:+--extra-index-url "$index" --index-strategy unsafe-best-match} -r <(echo "$wanted")
      else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check ${index:+--extra-index-url "$index"} \
          -r /dev/stdin <<<"$wanted"
      fi || fail "installing $name failed; see above" 1
      echo "$wanted" >"$stamp"
    fi
  ) 9>"$root/.venv.lock"
}

command="${1:-help}"
shift || true
case "$command" in
  an-cho | celeba | explore | export | faces | fraud | mnist | score | sweep | celeba-sweep | adbench | bench | lower | faults | test | oldest | check | docs) ;;
  help | -h | --help)
    usage
    exit
    ;;
  *) fail "unknown command '$command'; bash run.sh help lists them" ;;
esac

if [ "$command" = lower ]; then
  install "$lower_venv" "$root/requirements-lower.txt"
  python="$lower_venv/bin/python"
elif [ "$command" = oldest ]; then
  install "$oldest_venv" "$root/requirements-oldest.txt"
  python="$oldest_venv/bin/python"
elif [ -n "${VAE_JAX_PYTHON:-}" ]; then
  command -v "$VAE_JAX_PYTHON" >/dev/null || fail "VAE_JAX_PYTHON=$VAE_JAX_PYTHON: no such program"
  require_python "$VAE_JAX_PYTHON"
  python="$(command -v "$VAE_JAX_PYTHON")"
  [[ "$python" == /* ]] || python="$PWD/$python"
  requirements=requirements.txt
  [ "$command" != explore ] || requirements=requirements-explore.txt
  missing="$("$python" -c "$find_missing" $([ "$command" != explore ] || echo gradio))"
  [ -z "$missing" ] || fail "VAE_JAX_PYTHON=$VAE_JAX_PYTHON lacks $missing; install $requirements into it"
elif [ "$command" = score ] && [[ " $* " =~ " --engine"[=\ ]"ray " ]]; then
  install "$root/.venv-cluster" "$root/requirements-cluster.txt"
  python="$root/.venv-cluster/bin/python"
elif [ "$command" = export ] || [ "$command" = explore ]; then
  venv="$root/.venv-$command"
  install "$venv" "$root/requirements-$command.txt"
  python="$venv/bin/python"
else
  python="$venv/bin/python"
  install "$venv" "$root/requirements.txt"
  [ "$command" != check ] || install "$venv" "$root/requirements-dev.txt"
  [ "$command" != docs ] || install "$venv" "$root/requirements-docs.txt"
  [ "$command" != faults ] || install "$venv" "$root/requirements-faults.txt"
fi

if [ "$command" = bench ] && [ -z "${VAE_JAX_BENCH_PYTHON:-}" ]; then
  install "$bench_venv" "$root/requirements-bench.txt" "$(torch_index)"
  export VAE_JAX_BENCH_PYTHON="$bench_venv/bin/python"
fi

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
case "$command" in
  adbench) exec "$python" -m benchmarks.adbench "$@" ;;
  bench) exec "$python" -m benchmarks.bench "$@" ;;
  lower) exec "$python" -m benchmarks.lower "$@" ;;
  faults) exec "$python" -m benchmarks.faults "$@" ;;
  test | oldest)
    cd "$root"
    # A file's tests stay in one process, because they share what they have trained.
    exec "$python" -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"
    ;;
  check)
    cd "$root"
    "$python" -m ruff check .
    "$python" -m ruff format --check .
    "$python" -m pyright --pythonpath "$(command -v "$python")"
    "$python" -c 'from importlinter.cli import lint_imports_command as check; check()' --no-logo --no-cache
    ;;
  docs)
    cd "$root"
    # mkdocs.yml makes it strict. The variable keeps the theme's news of its successor out of the build's words.
    NO_MKDOCS_2_WARNING=1 exec "$python" -m mkdocs "${@:-build}"
    ;;
  *) exec "$python" -m experiments "$command" "$@" ;;
esac
