"""Runs the second official client, `alibabacloud-oss-v2`, against the OSS server."""

import urllib.request

import alibabacloud_oss_v2 as oss

from harness import (
    BUCKET,
    CUSTOM_DOMAIN,
    EXPIRED_ID,
    GOOD_ID,
    HOST,
    KEY_ID,
    KEY_SECRET,
    KEYS,
    PORT,
    REGION,
    STS_PORT,
    TOKEN,
    check,
    equal,
    finish,
)


def connect(endpoint, secret=KEY_SECRET, **more):
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(KEY_ID, secret)
    config.region = REGION
    config.endpoint = endpoint
    config.retry_max_attempts = 1
    for name, value in more.items():
        setattr(config, name, value)
    return oss.Client(config)


def refused(status, code, work):
    try:
        work()
    except oss.exceptions.OperationError as error:
        cause = error.unwrap()
        equal((cause.status_code, cause.code), (status, code))
        return
    raise AssertionError(f"not refused, {status} {code} was expected")


def suite(label, client):
    root = f"v2-{label}/"

    def at(name):
        return root + name

    def keys():
        for key in KEYS:
            client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=at(key), body=key.encode()))
            got = client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=at(key)))
            equal(got.body.content, key.encode())
            head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key=at(key)))
            equal(head.content_length, len(key.encode()))

    def ranges():
        client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=at("r"), body=b"0123456789"))
        part = client.get_object(oss.GetObjectRequest(
            bucket=BUCKET, key=at("r"), range_header="bytes=2-4", range_behavior="standard"))
        equal((part.status_code, part.body.content), (206, b"234"))

    def listing():
        for version, paginator in ((1, client.list_objects_paginator()), (2, client.list_objects_v2_paginator())):
            request = (oss.ListObjectsRequest if version == 1 else oss.ListObjectsV2Request)(
                bucket=BUCKET, prefix=root, max_keys=4)
            found = [o.key for page in paginator.iter_page(request) for o in page.contents or []]
            equal(set(found) >= {at(key) for key in KEYS}, True)
            equal(found, sorted(found, key=lambda key: key.encode()))

    def copying():
        client.copy_object(oss.CopyObjectRequest(
            bucket=BUCKET, key=at("copy"), source_bucket=BUCKET, source_key=at("中文/文献 筛选.pdf")))
        got = client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=at("copy")))
        equal(got.body.content, "中文/文献 筛选.pdf".encode())

    def multipart():
        key, size = at("multi"), 100 * 1024
        data = bytes(i % 251 for i in range(size + 5))
        started = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key=key))
        parts = []
        for number, piece in enumerate((data[:size], data[size:]), 1):
            sent = client.upload_part(oss.UploadPartRequest(
                bucket=BUCKET, key=key, upload_id=started.upload_id, part_number=number, body=piece))
            parts.append(oss.UploadPart(part_number=number, etag=sent.etag))
        client.complete_multipart_upload(oss.CompleteMultipartUploadRequest(
            bucket=BUCKET, key=key, upload_id=started.upload_id,
            complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts)))
        equal(client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=key)).body.content, data)

    def signed():
        url = client.presign(oss.PutObjectRequest(bucket=BUCKET, key=at("p +"), content_type="text/plain"))
        request = urllib.request.Request(url.url, method="PUT", data=b"direct", headers=url.signed_headers or {})
        urllib.request.urlopen(request, timeout=20).read()
        url = client.presign(oss.GetObjectRequest(bucket=BUCKET, key=at("p +")))
        equal(urllib.request.urlopen(url.url, timeout=20).read(), b"direct")

    def deleting():
        keys = [at(key) for key in KEYS]
        done = client.delete_multiple_objects(oss.DeleteMultipleObjectsRequest(
            bucket=BUCKET, encoding_type="url", objects=[oss.DeleteObject(key=key) for key in keys]))
        equal(sorted(o.key for o in done.deleted_objects), sorted(keys))
        client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key=at("copy")))
        refused(404, "NoSuchKey", lambda: client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=at("copy"))))

    for work in (keys, ranges, listing, copying, multipart, signed, deleting):
        check(f"oss-v2 {label}: {work.__name__}", work)


PATH_STYLE = f"http://{HOST}:{PORT}"
suite("path", connect(PATH_STYLE, use_path_style=True))
suite("virtual-host", connect(f"http://oss.localhost:{PORT}"))
suite("custom-domain", connect(f"http://{CUSTOM_DOMAIN}:{PORT}", use_cname=True))
suite("signed-host", connect(PATH_STYLE, use_path_style=True, additional_headers=["host", "range"]))
suite("v1", connect(PATH_STYLE, use_path_style=True, signature_version="v1"))


def wrong_secret():
    client = connect(PATH_STYLE, secret="wrong", use_path_style=True)
    refused(403, "SignatureDoesNotMatch", lambda: client.put_object(
        oss.PutObjectRequest(bucket=BUCKET, key="never", body=b"x")))


def settings():
    client = connect(PATH_STYLE, use_path_style=True)
    refused(404, "NoSuchLifecycle", lambda: client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket=BUCKET)))

    def put(rules, **more):
        client.put_bucket_lifecycle(oss.PutBucketLifecycleRequest(
            bucket=BUCKET, lifecycle_configuration=oss.LifecycleConfiguration(rules=rules), **more))

    rules = [
        oss.LifecycleRule(id="temp", prefix="temp/", status="Enabled", expiration=oss.LifecycleRuleExpiration(days=1)),
        oss.LifecycleRule(id="parts", prefix="", status="Enabled",
                          abort_multipart_upload=oss.LifecycleRuleAbortMultipartUpload(days=7)),
    ]
    put(rules)
    found = client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket=BUCKET)).lifecycle_configuration.rules
    equal([(r.id, r.prefix or "", r.status) for r in found], [("temp", "temp/", "Enabled"), ("parts", "", "Enabled")])
    equal((found[0].expiration.days, found[1].abort_multipart_upload.days), (1, 7))
    more = oss.LifecycleRule(id="more", prefix="temp/a", status="Enabled", expiration=oss.LifecycleRuleExpiration(days=3))
    refused(400, "InvalidRequest", lambda: put(rules + [more]))
    put(rules + [more], allow_same_action_overlap="true")
    client.delete_bucket_lifecycle(oss.DeleteBucketLifecycleRequest(bucket=BUCKET))
    refused(404, "NoSuchLifecycle", lambda: client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket=BUCKET)))

    refused(404, "NoSuchCORSConfiguration", lambda: client.get_bucket_cors(oss.GetBucketCorsRequest(bucket=BUCKET)))
    rule = oss.CORSRule(allowed_origins=["https://app.example"], allowed_methods=["GET", "PUT"], allowed_headers=["*"],
                        expose_headers=["ETag"], max_age_seconds=600)
    client.put_bucket_cors(oss.PutBucketCorsRequest(
        bucket=BUCKET, cors_configuration=oss.CORSConfiguration(cors_rules=[rule], response_vary=True)))
    found = client.get_bucket_cors(oss.GetBucketCorsRequest(bucket=BUCKET)).cors_configuration
    equal((found.cors_rules[0].allowed_methods, found.cors_rules[0].max_age_seconds, found.response_vary),
          (["GET", "PUT"], 600, True))
    client.delete_bucket_cors(oss.DeleteBucketCorsRequest(bucket=BUCKET))

    client.put_bucket_versioning(oss.PutBucketVersioningRequest(
        bucket=BUCKET, versioning_configuration=oss.VersioningConfiguration(status="Suspended")))
    found = client.get_bucket_versioning(oss.GetBucketVersioningRequest(bucket=BUCKET))
    equal(found.version_status, "Suspended")


def uploads():
    client = connect(PATH_STYLE, use_path_style=True)
    keys = ["v2u/a", "v2u/d/1", "v2u/z 中"]
    started = [client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key=key)) for key in keys]
    pages = client.list_multipart_uploads_paginator().iter_page(
        oss.ListMultipartUploadsRequest(bucket=BUCKET, prefix="v2u/", max_uploads=1))
    equal([u.key for page in pages for u in page.uploads or []], keys)
    last = started[-1]
    empty = client.list_parts(oss.ListPartsRequest(bucket=BUCKET, key=keys[-1], upload_id=last.upload_id))
    equal((empty.is_truncated, empty.parts or []), (False, []))
    for number in (1, 2, 3):
        client.upload_part(oss.UploadPartRequest(
            bucket=BUCKET, key=keys[-1], upload_id=last.upload_id, part_number=number, body=b"x" * number))
    pages = client.list_parts_paginator().iter_page(
        oss.ListPartsRequest(bucket=BUCKET, key=keys[-1], upload_id=last.upload_id, max_parts=2))
    equal([(p.part_number, p.size) for page in pages for p in page.parts], [(1, 1), (2, 2), (3, 3)])
    for key, one in zip(keys, started):
        client.abort_multipart_upload(oss.AbortMultipartUploadRequest(bucket=BUCKET, key=key, upload_id=one.upload_id))


def keys_that_expire():
    for key_id, token, code in (
        (GOOD_ID, TOKEN, None), (GOOD_ID, "other", "InvalidSecurityToken"), (EXPIRED_ID, TOKEN, "SecurityTokenExpired"),
    ):
        client = connect(f"http://{HOST}:{STS_PORT}", use_path_style=True,
                         credentials_provider=oss.credentials.StaticCredentialsProvider(key_id, KEY_SECRET, token))

        def put():
            client.put_object(oss.PutObjectRequest(bucket=BUCKET, key="temporary", body=b"x"))

        if code:
            refused(403, code, put)
        else:
            put()


for work in (wrong_secret, settings, uploads, keys_that_expire):
    check(f"oss-v2: {work.__name__}", work)
finish()
