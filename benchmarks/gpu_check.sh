#!/usr/bin/env bash
# The check for a machine with an NVIDIA GPU, which may have no network: both experiments, the benchmark, profiles, scores
# beside the processor's, and the tests that compute. Figures of past runs are in benchmarks/GPU.md.
#
#   bash benchmarks/gpu_check.sh pack       # where there is a network: puts what the check needs into .gpu/
#   bash benchmarks/gpu_check.sh [PART...]  # in a copy of the project with .gpu/; all parts take ten minutes or more
#
# VAE_JAX_PYTHON (default: python3) must have JAX for the GPU and what requirements.txt names, except for what pack
# brings; PyTorch is measured if it has that too. Outputs go to $OUT, by default gpu_results/.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
PARTS=(versions faces scores bench profiles fraud tests)
PACKED_PYTHON=3.12
# What a machine with JAX, PyTorch, scikit-learn and pandas is likely to lack.
PACKED=(
  tyro docstring-parser shtab typeguard rich tensorboardX dm-pix grain array-record etils importlib-resources more-itertools
  protobuf openpyxl et-xmlfile narwhals
)

pack() {
  local data="${VAE_JAX_DATA:?names the folder with creditcard/ and celeba/}" platforms=() minor
  rm -rf .gpu && mkdir -p .gpu/wheels .gpu/data/creditcard .gpu/data/celeba/img_align_celeba || return
  for minor in 17 24 27 28 31 34; do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
  .venv/bin/python -m pip download --quiet --no-deps --only-binary=:all: --python-version "$PACKED_PYTHON" \
    --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 --dest .gpu/wheels "${PACKED[@]}" || return
  gzip --stdout "$data/creditcard/creditcard.csv" >.gpu/data/creditcard/creditcard.csv.gz || return
  cp "$data"/celeba/*.csv .gpu/data/celeba/ || return
  # The photographs at the size that the model sees, which takes a third of the space.
  .venv/bin/python - "$data/celeba/img_align_celeba" .gpu/data/celeba/img_align_celeba <<'PYTHON' || return
import sys
from pathlib import Path
from PIL import Image
source, target = map(Path, sys.argv[1:])
for path in sorted(source.glob("*.jpg")):
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR, reducing_gap=3.0)
    small.save(target / path.name, quality=95)
PYTHON
  du -sh .gpu
}

# step NAME SECONDS COMMAND...: runs a command for at most so long; a line in the summary, all output in a file.
step() {
  local name="$1" limit="$2" started=$SECONDS code
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  ((failed += code != 0))
  echo "== $name: exit $code after $((SECONDS - started)) s" | tee -a "$out/summary.txt"
  tail -n 25 "$out/$name.log" | sed 's/.*\r//'
}

part() {
  case "$1" in
    versions)
      nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
      step versions 60 "$VAE_JAX_PYTHON" -c \
        'import sys, jax, flax, optax; print(sys.version, jax.__version__, flax.__version__, optax.__version__, jax.devices())'
      ;;
    faces) step faces 180 bash run.sh celeba --preset report --dtype bfloat16 --save-every 50 --cache "$work/cache" --run-dir "$work/faces" ;;
    fraud) step fraud 110 bash run.sh fraud --epochs 200 --num-models 8 --run-dir "$work/fraud" ;;
    scores) step scores 100 "$VAE_JAX_PYTHON" -m benchmarks.same_scores ;;
    profiles)
      for dtype in bfloat16 float32; do
        step "profile_faces_$dtype" 60 "$VAE_JAX_PYTHON" -m benchmarks.profile_step --dtype "$dtype"
      done
      for models in 1 64; do
        step "profile_gaussian_$models" 60 "$VAE_JAX_PYTHON" -m benchmarks.profile_step --program gaussian --models "$models"
      done
      ;;
    bench) step bench 240 bash run.sh bench --suite gpu --rounds 3 --seconds 1 --output "$out/bench.json" ;;
    tests)
      # Tests compare with float64 or with another form of the same program, so no shortened products.
      JAX_DEFAULT_MATMUL_PRECISION=highest step tests 170 "$VAE_JAX_PYTHON" -m pytest -q -p no:cacheprovider --numprocesses 4 --dist loadfile tests/test_scoring.py \
        tests/training/test_train_steps.py tests/networks/test_conv_networks.py tests/test_exemplars.py
      ;;
  esac
}

if [ "${1:-}" = pack ]; then
  pack
  exit
fi
[ $# -gt 0 ] || set -- "${PARTS[@]}"
for name in "$@"; do
  [[ " ${PARTS[*]} " == *" $name "* ]] || { echo "error: unknown part '$name'; there are ${PARTS[*]}" >&2; exit 2; }
done
[ -d .gpu/wheels ] || { echo "error: no .gpu/ here; bash benchmarks/gpu_check.sh pack makes it" >&2; exit 2; }
out="${OUT:-$PWD/gpu_results}"
work="$(mktemp -d)"
mkdir -p "$out"
VAE_JAX_PYTHON="$(command -v "${VAE_JAX_PYTHON:-python3}")"
"$VAE_JAX_PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" .gpu/wheels/*.whl
cp -r .gpu/data "$work/data" && gunzip "$work"/data/creditcard/*.gz
export PYTHONPATH="$work/site:$PWD" PYTHONUNBUFFERED=1 VAE_JAX_DATA="$work/data" VAE_JAX_PYTHON
export VAE_JAX_BENCH_PYTHON="$VAE_JAX_PYTHON"
failed=0
for name in "$@"; do part "$name"; done
for run in fraud faces; do cp "$work/$run/metrics.json" "$out/$run.json" 2>/dev/null; done
exit "$((failed > 0))"
