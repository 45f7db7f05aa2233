#!/bin/sh
# Installs what the tests need of the system (Debian, Ubuntu). Does nothing where all of it is there; without root it
# says what is missing.
set -eu

packages="
    chromium
    espeak-ng
    ffmpeg
    fonts-wqy-microhei
    gir1.2-gst-plugins-bad-1.0
    gir1.2-gst-rtsp-server-1.0
    gstreamer1.0-libav
    gstreamer1.0-nice
    gstreamer1.0-plugins-bad
    gstreamer1.0-plugins-base
    gstreamer1.0-plugins-good
    gstreamer1.0-plugins-ugly
    libasound2-plugins
    libgl1
    libglib2.0-0
    libportaudio2
    mosquitto
    openssl
    postgresql
    prometheus
    pulseaudio
    python3-gi
    redis-server
    systemd
"

installed() {
    dpkg-query --show --showformat='${db:Status-Status} ${Provides}\n' "$1" 2>/dev/null | grep -q '^installed' && return 0
    # newer releases carry some of them under another name, such as libglib2.0-0t64
    dpkg-query --show --showformat='${db:Status-Status} ${Provides}\n' 2>/dev/null \
        | grep '^installed ' | tr ',' '\n' | sed 's/^installed//; s/^ *//; s/ .*//' | grep -qx "$1"
}

if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian: see to it that these, or what they are called here, are there:" $packages >&2
    exit 1
fi

missing=""
for package in $packages; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need these packages: apt-get install$missing" >&2
    exit 1
fi

# No service is to start because of a test: policy-rc.d forbids it while we install.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
install() {
    # shellcheck disable=SC2086  # one word a package
    apt-get install --quiet=2 --yes --no-install-recommends $missing >/dev/null
}
install 2>/dev/null || { apt-get update --quiet=2 >/dev/null && install; }
