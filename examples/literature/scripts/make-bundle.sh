#!/usr/bin/env bash
# Puts everything that a site without a network needs into one archive, with checksums and its own installer.
#
#   make-bundle.sh --version v1.0.0 --program target/release/literature --operator target/release/zhuji --to DIRECTORY
#
#   --image FILE   an image as `docker save` writes it; any number of times, for the composition
#   --sbom FILE    a bill of materials to put in; any number of times
#
# The same inputs make the same bytes. Prints the archive's path.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 1
}

version='' program='' operator='' to=''
images=() sboms=()
while [[ $# -gt 0 ]]; do
  [[ $# -ge 2 ]] || fail "$1 needs a value"
  case $1 in
    --version) version=$2 ;;
    --program) program=$2 ;;
    --operator) operator=$2 ;;
    --to) to=$2 ;;
    --image) images+=("$2") ;;
    --sbom) sboms+=("$2") ;;
    *) fail "there is no option $1" ;;
  esac
  shift 2
done
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || fail "--version: such as v1.0.0"
[[ -x $program ]] || fail "--program: the service's program"
[[ -x $operator ]] || fail "--operator: the program zhuji"
[[ -d $to ]] || fail "--to: a directory that exists"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(cd "$here/../.." && pwd)
name=literature-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
home=$work/$name

mkdir -p "$home"/{bin,deploy,docs,images,sbom,scripts}
install -m 0755 "$program" "$home/bin/literature"
install -m 0755 "$operator" "$home/bin/zhuji"
install -m 0755 "$here/scripts/make-secrets.sh" "$home/scripts/"
install -m 0755 "$here/scripts/install.sh" "$home/install.sh"
# Not what one machine keeps for itself: secrets, backups and its own settings.
for file in "$here"/deploy/* "$here/deploy/.env.example"; do
  case $(basename "$file") in
    secrets | backup) ;;
    *) cp -R "$file" "$home/deploy/" ;;
  esac
done
cp "$here/.env.example" "$home/deploy/settings.example"
cp -R "$root"/docs/. "$home/docs/"
cp "$root/LICENSE" "$root/CHANGELOG.md" "$home/"
for file in ${images[@]+"${images[@]}"}; do cp "$file" "$home/images/"; done
for file in ${sboms[@]+"${sboms[@]}"}; do cp "$file" "$home/sbom/"; done
rmdir --ignore-fail-on-non-empty "$home/images" "$home/sbom"
echo "$version" >"$home/VERSION"
find "$home" -type d -exec chmod 0755 {} +

cd "$home"
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >"$work/sums"
mv "$work/sums" SHA256SUMS

archive=$to/$name.tar.gz
tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" "$name" |
  gzip --no-name -9 >"$archive.part"
mv "$archive.part" "$archive"
(cd "$to" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$archive"
