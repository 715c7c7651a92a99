#!/usr/bin/env python3
"""Writes v4_vectors.json: signatures made by Alibaba Cloud's official Python clients.

    python3 -m venv venv && venv/bin/pip install oss2 alibabacloud-oss-v2
    venv/bin/python crates/storage/tests/data/make_vectors.py

Both clients sign every V4 case; the script stops if they differ. V1 comes from oss2. All keys in here are invented.
"""

import datetime
import json
import pathlib
import time
from unittest import mock
from urllib.parse import quote, urlsplit

import alibabacloud_oss_v2 as v2
import oss2
import oss2.auth
from alibabacloud_oss_v2.signer import SignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext

ID, SECRET = "LTAI5tVectorVectorVector", "SecretSecretSecretSecretSecret"
TOKEN = "CAISqwJ1q6Ft5B2yfSjIr5bWG/+/abc=="
BUCKET = "aiclinical-demo"
NOW = datetime.datetime(2025, 11, 16, 10, 30, 0, tzinfo=datetime.timezone.utc)

KEYS = [
    "a.txt", "asl/pdfs/2025.pdf", "asl/文献/心脏病.pdf", "a b", "a+b", "100%.txt", "a%2Fb", "q?x=1&y#z", "~!*'().txt",
    "emoji/😀.png", "=@:,;$", "back\\slash", "quo\"te", "a/b/c/d/e", " lead and trail ",
    "folder/", "文献/", "a//b", "+", "%", "%25", "a%20b", "\u00a0nbsp", "tab\tin it", ".well-known/x", "ｆｕｌｌ　ｗｉｄｔｈ",
]
META = {"x-oss-meta-source": "zhuji", "x-oss-meta-title": "%E6%96%87", "content-type": "application/pdf"}


def cases():
    for key in KEYS:
        yield f"get {key}", "GET", key, {}, {}, False
        yield f"get by url {key}", "GET", key, {}, {}, True
    for key in ("a.txt", "asl/文献/1 + 1.pdf"):
        yield f"put {key}", "PUT", key, {}, {"content-type": "text/plain; charset=utf-8"}, False
        yield f"put with metadata {key}", "PUT", key, {}, META, False
        yield f"put by url {key}", "PUT", key, {}, {}, True
        yield f"put by url with a type {key}", "PUT", key, {}, {"content-type": "application/pdf"}, True
        yield f"create only {key}", "PUT", key, {}, {**META, "x-oss-forbid-overwrite": "true"}, False
        yield f"head {key}", "HEAD", key, {}, {}, False
        yield f"delete {key}", "DELETE", key, {}, {}, False
        yield f"copy {key}", "PUT", key, {}, {"x-oss-copy-source": f"/{BUCKET}/{quote(key)}"}, False
        yield f"initiate {key}", "POST", key, {"uploads": ""}, {"content-type": "application/pdf"}, False
        yield f"part {key}", "PUT", key, {"partNumber": "1", "uploadId": "0004B9894A22E5B1888A1E29F823+/="}, {}, False
        yield f"complete {key}", "POST", key, {"uploadId": "0004B9894A22E5"}, {"content-type": "application/xml"}, False
        yield f"abort {key}", "DELETE", key, {"uploadId": "0004B9894A22E5"}, {}, False
        yield f"range {key}", "GET", key, {}, {"range": "bytes=0-9", "x-oss-range-behavior": "standard"}, False
        overrides = {
            "response-content-disposition": "attachment; filename=\"__.pdf\"; filename*=UTF-8''%E6%96%87%E7%8C%AE.pdf",
            "response-content-type": "application/pdf",
        }
        yield f"download name {key}", "GET", key, overrides, {}, True
        for name, value in (("acl", ""), ("tagging", ""), ("symlink", ""), ("objectMeta", ""), ("restore", ""),
                            ("versionId", "CAEQMxiBgICbof2D0BYiIDhi+/="), ("x-oss-process", "image/resize,w_100/quality,q_90")):
            yield f"{name} {key}", "GET", key, {name: value}, {}, False
            yield f"{name} by url {key}", "GET", key, {name: value}, {}, True
        yield f"append {key}", "POST", key, {"append": "", "position": "0"}, {"content-type": "text/plain"}, False
        yield f"parts {key}", "GET", key, {"uploadId": "0004B9894A22E5+/=", "part-number-marker": "1000"}, {}, False
        yield f"head by url {key}", "HEAD", key, {}, {}, True
        chinese = {"response-content-disposition": "attachment; filename*=UTF-8''" + quote("心脏病 文献 (1)+2.pdf", safe=""),
                   "response-content-type": "text/plain; charset=utf-8", "response-cache-control": "no-cache"}
        yield f"every override {key}", "GET", key, chinese, {}, True
    for name in ("acl", "cors", "lifecycle", "versioning", "location", "stat", "versions"):
        yield f"bucket {name}", "GET", "", {name: ""}, {}, False
    yield "set lifecycle", "PUT", "", {"lifecycle": ""}, {"content-md5": "ohhnqLBJFiKkPSBO1eNaUA==", "content-type": "application/xml"}, False
    for token in ("a+b/c==", "ChR1c2Vy 空", "%2B"):
        query = {"list-type": "2", "encoding-type": "url", "max-keys": "1000", "prefix": "asl/文 献+/%2F?&#", "continuation-token": token}
        yield f"list with token {token}", "GET", "", query, {}, False
    yield "list", "GET", "", {"list-type": "2", "encoding-type": "url", "max-keys": "1000"}, {}, False
    weird = {"list-type": "2", "encoding-type": "url", "max-keys": "10", "prefix": "dir/子 目录+x/", "delimiter": "/",
             "start-after": "dir/子 目录+x/\U0010ffff"}
    yield "list below a prefix", "GET", "", weird, {}, False
    yield "list with a token", "GET", "", {"list-type": "2", "continuation-token": "ChR1c2Vy/+=="}, {}, False
    delete = {"content-md5": "ohhnqLBJFiKkPSBO1eNaUA==", "content-type": "application/xml"}
    yield "batch delete", "POST", "", {"delete": "", "encoding-type": "url"}, delete, False


class Clock(datetime.datetime):
    @classmethod
    def utcnow(cls):
        return NOW.replace(tzinfo=None)


def request_of_oss2(method, key, query, headers, region):
    # `oss2.http.Request` would add a user agent; the signer only reads these attributes.
    request = mock.Mock(spec=[])
    request.method, request.url = method, "https://host/" + quote(key)
    request.params, request.headers = dict(query), dict(headers)
    request.region, request.product, request.cloudbox_id = region, "oss", None
    return request


def by_oss2(version, method, key, query, headers, token, in_url, region, expires):
    provider = oss2.credentials.StaticCredentialsProvider(ID, SECRET, token or "")
    auth = (oss2.ProviderAuthV4 if version == "v4" else oss2.ProviderAuth)(provider)
    request = request_of_oss2(method, key, query, headers, region)
    with mock.patch.object(oss2.auth, "datetime", Clock), mock.patch.object(time, "time", lambda: NOW.timestamp()), \
            mock.patch.object(oss2.utils, "http_date", lambda: NOW.strftime("%a, %d %b %Y %H:%M:%S GMT")):
        if in_url:
            auth._sign_url(request, BUCKET, key, expires)
            return request.params["x-oss-signature" if version == "v4" else "Signature"]
        auth._sign_request(request, BUCKET, key)
    value = request.headers["authorization"]
    return value.split("Signature=")[1].split(",")[0] if version == "v4" else value.rsplit(":", 1)[1]


def by_v2(method, key, query, headers, token, in_url, region, expires):
    text = "&".join(quote(k, safe="") + (f"={quote(v, safe='')}" if v else "") for k, v in query.items())
    url = f"https://host/{quote(key)}" + (f"?{text}" if text else "")
    request = HttpRequest(method, url, headers=dict(headers))
    context = SigningContext(
        product="oss", region=region, bucket=BUCKET, key=key, request=request,
        credentials=v2.credentials.Credentials(ID, SECRET, token), signing_time=NOW)
    context.auth_method_query = in_url
    context.expiration_time = NOW + datetime.timedelta(seconds=expires)
    SignerV4().sign(context)
    if in_url:
        return dict(pair.partition("=")[::2] for pair in urlsplit(request.url).query.split("&"))["x-oss-signature"]
    return request.headers["Authorization"].split("Signature=")[1]


def urls():
    """Whole URLs: a custom domain bound to the bucket, and the bucket's own domain; with and without a token."""
    disposition = {"response-content-disposition": "attachment; filename*=UTF-8''%E6%96%87%E7%8C%AE.pdf"}
    pdf = {"content-type": "application/pdf"}
    for endpoint, cname in (("https://files.example.com", True), ("https://oss-cn-hangzhou.aliyuncs.com", False)):
        for token in (None, TOKEN):
            for version in ("v4", "v1"):
                provider = oss2.credentials.StaticCredentialsProvider(ID, SECRET, token or "")
                auth = (oss2.ProviderAuthV4 if version == "v4" else oss2.ProviderAuth)(provider)
                bucket = oss2.Bucket(auth, endpoint, BUCKET, is_cname=cname, region="cn-hangzhou")
                for method, key, query, headers in (
                        ("GET", "asl/文献/1 + 1.pdf", {}, {}), ("GET", "a%2Fb?&#😀", disposition, {}),
                        ("PUT", "asl/文献/1 + 1.pdf", {}, pdf), ("PUT", "folder/a", {}, {}), ("HEAD", " x ", {}, {})):
                    with mock.patch.object(oss2.auth, "datetime", Clock), \
                            mock.patch.object(time, "time", lambda: NOW.timestamp()):
                        url = bucket.sign_url(method, key, 3600, headers=dict(headers), params=dict(query), slash_safe=True)
                    yield {"version": version, "cname": cname, "method": method, "key": key, "query": list(query.items()),
                           "headers": list(headers.items()), "token": token, "url": url}


def main():
    vectors, region = [], "cn-hangzhou"
    for name, method, key, query, headers, in_url in cases():
        for token in (None, TOKEN):
            expires = 3600
            arguments = (method, key, query, headers, token, in_url, region, expires)
            signature = by_oss2("v4", *arguments)
            other = by_v2(*arguments)
            assert signature == other, f"{name}: oss2 {signature}, oss-v2 {other}"
            common = {"method": method, "key": key, "query": list(query.items()), "headers": list(headers.items()),
                      "token": token, "in_url": in_url, "expires": expires}
            vectors.append({"name": name, "version": "v4", **common, "signature": signature})
            # With V1 a header that is not signed changes nothing, and oss2 signs the same resource.
            vectors.append({"name": name, "version": "v1", **common, "signature": by_oss2("v1", *arguments)})
    data = {
        "made_by": f"oss2 {oss2.__version__} and alibabacloud-oss-v2 {v2.__version__}",
        "access_key_id": ID, "access_key_secret": SECRET, "bucket": BUCKET, "region": region,
        "time": NOW.isoformat().replace("+00:00", "Z"), "urls": list(urls()), "vectors": vectors,
    }
    path = pathlib.Path(__file__).with_name("v4_vectors.json")
    path.write_text(json.dumps(data, ensure_ascii=True, indent=1) + "\n")
    print(f"{len(vectors)} vectors in {path}")


if __name__ == "__main__":
    main()
