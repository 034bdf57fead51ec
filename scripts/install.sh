#!/bin/sh
# Installs weft for this user: builds it from the checkout that this script lies
# in, or takes a release archive and checks its hash, or takes the program beside
# this script (in an unpacked archive). It writes one file, opens no port and
# needs no root unless the prefix does.
#
#   scripts/install.sh                              build from the checkout
#   scripts/install.sh --from weft-v1-linux-amd64.tar.gz
#   scripts/install.sh --from https://example.org/weft-v1-linux-amd64.tar.gz
#   PREFIX=/usr/local sudo -E scripts/install.sh
set -eu

usage() {
	cat <<'END'
usage: install.sh [--prefix DIR] [--from ARCHIVE [--sums FILE | --sha256 HASH]]
                  [--service | --no-service]

  --prefix DIR    install to DIR/bin (default $PREFIX, else ~/.local)
  --from ARCHIVE  a release archive: a path or an https address
  --sums FILE     its checksums: a path or an https address
                  (default SHA256SUMS beside the archive)
  --sha256 HASH   its hash, where there are no checksums
  --service       let the system start weft now and at every login
  --no-service    do not ask about that
END
}

say() { printf '%s\n' "$*"; }
fail() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

prefix=${PREFIX:-}
from=''
sums=''
want=''
service=ask
while [ $# -gt 0 ]; do
	case $1 in
	--prefix | --from | --sums | --sha256)
		[ $# -ge 2 ] || fail "$1 wants a value; see --help"
		case $1 in
		--prefix) prefix=$2 ;;
		--from) from=$2 ;;
		--sums) sums=$2 ;;
		--sha256) want=$2 ;;
		esac
		shift 2
		;;
	--service) service=yes && shift ;;
	--no-service) service=no && shift ;;
	-h | --help) usage && exit 0 ;;
	*) fail "$1 is unknown; see --help" ;;
	esac
done
if [ -z "$prefix" ]; then
	[ -n "${HOME:-}" ] || fail "HOME is not set; say where to with --prefix DIR"
	prefix=$HOME/.local
fi
bin=$prefix/bin

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/weft-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# hash_of FILE prints its SHA-256.
hash_of() {
	if have sha256sum; then
		sha256sum "$1" | cut -d ' ' -f 1
	elif have shasum; then
		shasum -a 256 "$1" | cut -d ' ' -f 1
	elif have openssl; then
		openssl dgst -sha256 "$1" | sed 's/.* //'
	else
		fail "nothing here computes SHA-256: install sha256sum (coreutils), shasum or openssl"
	fi
}

# bring SOURCE FILE copies a path or an https address to FILE.
bring() {
	case $1 in
	https://*)
		say "downloading $1"
		if have curl; then
			curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' --output "$2" "$1" || fail "$1 cannot be downloaded"
		elif have wget; then
			wget -q -O "$2" "$1" || fail "$1 cannot be downloaded"
		else
			fail "neither curl nor wget is here: download $1 yourself and give its path"
		fi
		;;
	*://*) fail "$1: only https addresses and paths are taken" ;;
	*)
		[ -f "$1" ] || fail "$1 is not there"
		cp "$1" "$2"
		;;
	esac
}

# check FILE NAME compares its hash with the one that is wanted.
check() {
	if [ -z "$want" ]; then
		bring "${sums:-$(dirname "$from")/SHA256SUMS}" "$work/sums"
		want=$(awk -v name="$2" '{ n = $2; sub(/^[*]/, "", n); if (n == name) { print $1; exit } }' "$work/sums")
		[ -n "$want" ] || fail "the checksums do not name $2; is it a renamed file? Give its hash with --sha256"
	fi
	want=$(printf '%s' "$want" | tr 'A-F' 'a-f')
	got=$(hash_of "$1")
	[ "$got" = "$want" ] || fail "$2 is damaged or not what was released: its hash is $got, not $want. Nothing was installed"
	say "$2 has the hash that was released"
}

# from_archive takes the program out of an archive whose hash is right.
from_archive() {
	name=$(basename "$from")
	bring "$from" "$work/archive"
	check "$work/archive" "$name"
	case $name in
	*.tar.gz) ;;
	*.zip) fail "$name is for Windows: unpack it there and put weft.exe on the Path" ;;
	*) fail "$name is no release archive (weft-VERSION-OS-ARCH.tar.gz)" ;;
	esac
	mkdir "$work/files"
	tar -xzf "$work/archive" -C "$work/files" || fail "$name cannot be unpacked"
	for f in "$work"/files/*/weft; do
		[ -f "$f" ] && [ ! -L "$f" ] || fail "$name holds no weft"
		mv "$f" "$work/weft"
	done
}

# from_checkout builds the program.
from_checkout() {
	have go || fail "Go is not here: install it (https://go.dev/dl), or take a release archive with --from"
	say "building weft with $(go env GOVERSION)"
	version=$(git -C "$1" describe --tags --always --dirty 2>/dev/null || echo dev)
	(cd "$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$work/weft" .) || fail "weft cannot be built"
	"$work/weft" version >/dev/null 2>&1 && return
	say "weft's loader of GPU drivers does not run on this system; building without it"
	(cd "$1" && CGO_ENABLED=0 go build -tags static -trimpath -ldflags "-s -w -X main.version=$version" -o "$work/weft" .) || fail "weft cannot be built"
}

if [ -n "$from" ]; then
	from_archive
elif [ -f "$here/weft" ] && [ ! -f "$here/go.mod" ]; then
	cp "$here/weft" "$work/weft"
elif [ -f "$here/../go.mod" ] && [ -f "$here/../main.go" ]; then
	from_checkout "$here/.."
else
	fail "there is no checkout and no program beside this script: give a release archive with --from"
fi

chmod 755 "$work/weft"
version=$("$work/weft" version) || fail "the program does not run on this machine ($(uname -s) $(uname -m)); is it the archive for another one? Linux without glibc takes the one that ends in -static"
mkdir -p "$bin" 2>/dev/null || fail "$bin cannot be made: choose another place with --prefix, or use sudo"
# Replaced whole: a running weft goes on with the old file.
{ cp "$work/weft" "$bin/.weft.new" && mv -f "$bin/.weft.new" "$bin/weft"; } 2>/dev/null || fail "$bin cannot be written: choose another place with --prefix, or use sudo"
say "installed $version to $bin/weft"
case ":${PATH:-}:" in
*":$bin:"*) ;;
*) say "$bin is not on your PATH: add  export PATH=\"$bin:\$PATH\"  to your shell's profile" ;;
esac

if [ "$service" = ask ] && [ -t 0 ] && [ -t 1 ]; then
	printf 'Start weft now and at every login? [y/N] '
	read -r reply || reply=
	case $reply in
	y | Y | yes) service=yes ;;
	esac
fi
if [ "$service" = yes ]; then
	"$bin/weft" service install
else
	say "start it with  weft up,  or for good with  weft service install"
fi
