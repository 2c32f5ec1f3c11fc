#!/bin/sh
# Makes the Debian package of hapax out of bin/hapax: packaging/deb/build.sh VERSION OUTPUT-FOLDER.
#
# It is the same, byte for byte, wherever and whenever it is made: SOURCE_DATE_EPOCH is the time of all files, 0 by default.
# nfpm comes with the go.mod beside this file, which is apart from that of hapax.

set -eu

version=${1:?VERSION is missing}
out=$(realpath "${2:?OUTPUT-FOLDER is missing}")
cd "$(dirname "$0")"

STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
DESTDIR=$STAGE PREFIX=/usr ../install.sh
ARCH=$(go env GOARCH)
VERSION=$version
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export STAGE ARCH VERSION SOURCE_DATE_EPOCH
go tool nfpm package --config nfpm.yaml --packager deb --target "$out/"
