#!/bin/sh
# Makes .venv and installs edgert with the extras named, at the versions of requirements.lock.
# Usage: sh setup.sh EXTRAS          e.g. sh setup.sh host,demo
#        sh setup.sh packages        Debian packages that the system tests need (as root; APT=no forbids it)
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
tegra_release=${TEGRA_RELEASE:-/etc/nv_tegra_release} # a board has this file
packages="mosquitto openssl systemd cmake g++-aarch64-linux-gnu g++ python3-gi gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"

install_packages() {
  missing=""
  command -v npm >/dev/null || packages="$packages npm"
  for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "${APT:-yes}" = no ] || [ "$(id -u)" != 0 ]; then
    echo "Tests that need these packages will be skipped; as root:  apt-get install -y$missing"
    return 0
  fi
  echo "Installing Debian packages for the system tests:$missing"
  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
}

# Debian's packages with venv for the chosen interpreter.
venv_packages() {
  case ${python##*/} in
    python3.*) echo "${python##*/}-venv" ;;
    *) echo "python3-venv python3-pip" ;;
  esac
}

# Refuses an extra that pyproject.toml does not have.
demand_extras() {
  known=$(sed -n '/^\[project.optional-dependencies\]/,/^\[project.scripts\]/s/^\([a-z0-9_-]*\) = \[.*/\1/p' pyproject.toml)
  for extra in $(echo "$1" | tr ',' ' '); do
    echo "$known" | grep -qx -- "$extra" || {
      echo "There is no extra '$extra'; there are:" $known
      exit 1
    }
  done
}

# A board has OpenCV and TensorRT from JetPack: leaves out `host`, whose packages would hide them.
extras_here() {
  if [ -f "$tegra_release" ]; then
    echo "$1" | tr ',' '\n' | grep -vx host | paste -sd, -
  else
    echo "$1"
  fi
}

demand_python() {
  missing=""
  command -v make >/dev/null || missing="$missing make"
  if command -v "$python" >/dev/null; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing $(venv_packages)"
  elif [ "$python" = python3 ]; then
    missing="$missing python3 python3-venv python3-pip"
  else
    echo "There is no interpreter $python here. Name one that is, or leave PYTHON away: make PYTHON=python3 ..."
    exit 1
  fi
  if [ -n "$missing" ]; then
    echo "apt-get install -y$missing    # missing here; run this as root, then the same command again"
    exit 1
  fi
  "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2])' || {
    echo "edgert needs Python 3.10 or later; $python is $("$python" -V 2>&1). Name another: make PYTHON=python3.12 ..."
    exit 1
  }
}

install_edgert() {
  extras=$(extras_here "$1")
  stamp=".venv/.installed-$(echo "$extras" "$python" | cat - pyproject.toml requirements.lock | cksum | tr ' ' -)"
  [ ! -f "$stamp" ] || return 0
  # A board's own TensorRT and OpenCV stand outside the environment.
  site=""
  [ ! -f "$tegra_release" ] || site="--system-site-packages"
  [ "$extras" = "$1" ] || echo "This is a board: left out the extra host, as JetPack's own OpenCV and TensorRT are used"
  echo "Installing edgert${extras:+[$extras]} into .venv"
  [ -x .venv/bin/python ] || "$python" -m venv $site .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check --root-user-action=ignore \
    -c requirements.lock -e ".${extras:+[$extras]}"
  touch "$stamp"
}

case ${1:-} in
  packages) install_packages ;;
  '' | -*) sed -n '2,4s/^# //p' "$0"; exit 1 ;;
  *) demand_extras "$1"; demand_python; install_edgert "$1" ;;
esac
