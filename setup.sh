#!/bin/sh
# Makes .venv and installs edgert with the extras named, at the versions of requirements.lock.
# Usage: sh setup.sh EXTRAS          e.g. sh setup.sh host,demo
#        sh setup.sh packages        Debian packages that the system tests need (as root; APT=no forbids it)
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
packages="mosquitto openssl python3-gi gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0
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

demand_python() {
  missing=""
  command -v make >/dev/null || missing="$missing make"
  command -v "$python" >/dev/null || missing="$missing python3"
  "$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv python3-pip"
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
  stamp=".venv/.installed-$(echo "$1" "$python" | cat - pyproject.toml requirements.lock | cksum | tr ' ' -)"
  [ ! -f "$stamp" ] || return 0
  # A board's own TensorRT and OpenCV stand outside the environment.
  site=""
  [ ! -f /etc/nv_tegra_release ] || site="--system-site-packages"
  echo "Installing edgert[$1] into .venv"
  [ -x .venv/bin/python ] || "$python" -m venv $site .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check --root-user-action=ignore \
    -c requirements.lock -e ".[$1]"
  touch "$stamp"
}

case ${1:-} in
  packages) install_packages ;;
  '' | -*) sed -n '2,4s/^# //p' "$0"; exit 1 ;;
  *) demand_python; install_edgert "$1" ;;
esac
