#!/bin/sh
# Installs hapax: make install [DESTDIR=DIR] [PREFIX=/usr/local].
#
#   DESTDIR  put everything below this folder, for a package; programs still find each other below PREFIX
#   PREFIX   /usr/local by default; a package takes /usr
#   BIN      the hapax to install, bin/hapax by default
#   HAPAX    the one to run for the shell completions, when that is for another machine
#
# Plugins of kernel-install go to /usr/lib/kernel/install.d when PREFIX is /usr, else to /etc/kernel/install.d, which it reads,
# too. The hooks of Debian's kernel packages are in /etc/kernel in any case.

set -eu

cd "$(dirname "$0")/.."
DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
BIN=${BIN:-bin/hapax}
HAPAX=${HAPAX:-$BIN}

[ -x "$BIN" ] || { echo "install.sh: there is no $BIN: run make build first" >&2; exit 1; }
case $PREFIX in
/*) ;;
*) echo "install.sh: PREFIX=$PREFIX: name an absolute folder" >&2; exit 2 ;;
esac

put() { # MODE FILE TARGET
	install -D -m "$1" "$2" "$DESTDIR$3"
}

put 755 "$BIN" "$PREFIX/bin/hapax"

for page in man/*.[1-8]; do
	put 644 "$page" "$PREFIX/share/man/man${page##*.}/${page##*/}"
done

temp=$(mktemp)
trap 'rm -f "$temp"' EXIT
completion() { # SHELL TARGET
	"$HAPAX" completion "$1" >"$temp"
	put 644 "$temp" "$2"
}
completion bash "$PREFIX/share/bash-completion/completions/hapax"
completion fish "$PREFIX/share/fish/vendor_completions.d/hapax.fish"
if [ "$PREFIX" = /usr ]; then
	completion zsh /usr/share/zsh/vendor-completions/_hapax
else
	completion zsh "$PREFIX/share/zsh/site-functions/_hapax"
fi

plugins=/etc/kernel/install.d
[ "$PREFIX" != /usr ] || plugins=/usr/lib/kernel/install.d
put 755 packaging/55-hapax.install "$plugins/55-hapax.install"
put 755 packaging/55-hapax.install "$plugins/86-hapax.install"
put 755 packaging/kernel-hook /etc/kernel/postinst.d/zz-hapax
put 755 packaging/kernel-hook /etc/kernel/postrm.d/zz-hapax

for file in README.md CHANGELOG.md LICENSE; do
	put 644 "$file" "$PREFIX/share/doc/hapax/$file"
done
