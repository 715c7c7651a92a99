#!/usr/bin/env bash
# Builds the image, tags it and pushes it to the container registry, and prints its digest.
#
#   ./build-and-push.sh v1.0.0
#
# From the environment:
#   REGISTRY     the registry's host               registry.cn-hangzhou.aliyuncs.com
#   NAMESPACE    its namespace                     aiclinical
#   REPOSITORY   the repository in it              backend
#   BUILD_ARGS   more arguments of `docker build`, separated by spaces: --build-arg BASE_REGISTRY=…
#
# Log in first: docker login --username=<account> registry.cn-hangzhou.aliyuncs.com
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 1
}

if [[ $# -ne 1 ]]; then
  echo "Usage: ./build-and-push.sh <version>" >&2
  echo "Example: ./build-and-push.sh v1.0.0" >&2
  exit 2
fi

version=$1
registry=${REGISTRY:-registry.cn-hangzhou.aliyuncs.com}
namespace=${NAMESPACE:-aiclinical}
repository=${REPOSITORY:-backend}
read -r -a build_args <<<"${BUILD_ARGS:-}"

[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] ||
  fail "\`$version\` is no version such as v1.0.0 or v1.0.0-rc.1"
command -v docker >/dev/null || fail "docker is not in PATH"

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

# A version names one state of the sources, for ever.
revision=$(git rev-parse HEAD)
[[ -z $(git status --porcelain) ]] ||
  fail "there are changes that are not committed: the image could not be built again from $revision"

local_name=$namespace-$repository:$version
image=$registry/$namespace/$repository:$version

# A tag that is there is what some instance runs: it is never pushed over.
if docker manifest inspect "$image" >/dev/null 2>&1; then
  fail "$image exists already: take the next version"
fi

echo "Building $local_name from $revision"
docker build \
  --file examples/literature/Dockerfile \
  --build-arg "VERSION=$version" \
  --build-arg "REVISION=$revision" \
  ${build_args[@]+"${build_args[@]}"} \
  --tag "$local_name" \
  .

echo "Tagging $image"
docker tag "$local_name" "$image"

echo "Pushing $image"
docker push "$image"

# What was pushed, whatever the tag may point to later: this is what to deploy.
digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image" |
  grep --fixed-strings "$registry/$namespace/$repository@sha256:" | head -n 1) ||
  fail "$image was pushed, but docker tells no digest of it"

echo "Done"
echo "image:  $image"
echo "digest: $digest"
