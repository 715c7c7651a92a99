// Writes ali_oss_signatures.json: what Alibaba Cloud's official Node client signs for the cases in v4_vectors.json.
//
//     npm install --prefix DIR ali-oss
//     node crates/storage/tests/data/make_vectors_ali_oss.mjs DIR/node_modules
//
// V4 is asked of `authorizationV4` and of the steps that `signatureUrlV4` takes; V1 of `buildCanonicalString`, with the
// sub-resources that OSS documents, because the client's own operations say which parameters these are.

import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

const modules = resolve(process.argv[2] ?? 'node_modules');
const require = createRequire(`${modules}/`);
const sign = require(`${modules}/ali-oss/lib/common/signUtils.js`);
const { version } = require(`${modules}/ali-oss/package.json`);

const here = name => new URL(name, import.meta.url);
const data = JSON.parse(readFileSync(here('v4_vectors.json'), 'utf8'));
const { access_key_id: id, access_key_secret: secret, bucket, region } = data;
const time = new Date(data.time);
const iso = time.toISOString().replace(/[-:]|\.\d+/g, '');
const day = iso.slice(0, 8);

const SUB_RESOURCES = new Set(['acl', 'append', 'continuation-token', 'cors', 'delete', 'lifecycle', 'location', 'objectMeta',
  'partNumber', 'position', 'response-cache-control', 'response-content-disposition', 'response-content-type', 'restore',
  'security-token', 'stat', 'symlink', 'tagging', 'uploadId', 'uploads', 'versionId', 'versioning', 'versions',
  'x-oss-process']);

// A flag such as `uploads` has no value at all.
const flags = query => Object.fromEntries(query.map(([name, value]) => [name, value === '' ? null : value]));

function v4(vector) {
  const headers = Object.fromEntries(vector.headers);
  const queries = flags(vector.query);
  if (!vector.in_url) {
    headers['x-oss-date'] = iso;
    headers['x-oss-content-sha256'] = 'UNSIGNED-PAYLOAD';
    if (vector.token) headers['x-oss-security-token'] = vector.token;
    const value = sign.authorizationV4(id, secret, region, vector.method, { headers, queries }, bucket, vector.key);
    return value.split('Signature=')[1];
  }
  queries['x-oss-credential'] = sign.getCredential(day, region, id);
  queries['x-oss-date'] = iso;
  queries['x-oss-expires'] = vector.expires;
  queries['x-oss-signature-version'] = 'OSS4-HMAC-SHA256';
  if (vector.token) queries['x-oss-security-token'] = vector.token;
  const canonical = sign.getCanonicalRequest(vector.method, { headers, queries }, bucket, vector.key, []);
  return sign.getSignatureV4(secret, day, region, sign.getStringToSign(region, iso, canonical));
}

function v1(vector) {
  const headers = { 'content-type': '', ...Object.fromEntries(vector.headers) };
  const parameters = Object.fromEntries(vector.query.filter(([name]) => SUB_RESOURCES.has(name)));
  if (vector.token) {
    if (vector.in_url) parameters['security-token'] = vector.token;
    else headers['x-oss-security-token'] = vector.token;
  }
  const date = vector.in_url ? String(time.getTime() / 1000 + vector.expires) : time.toUTCString();
  const text = sign.buildCanonicalString(vector.method, `/${bucket}/${vector.key}`, { headers, parameters }, date);
  return sign.computeSignature(secret, text);
}

const signatures = data.vectors.map(vector => (vector.version === 'v4' ? v4(vector) : v1(vector)));
const different = data.vectors.filter((vector, index) => vector.signature !== signatures[index]);
for (const vector of different) console.log('differs from the Python clients:', vector.version, vector.name);
writeFileSync(
  here('ali_oss_signatures.json'),
  JSON.stringify({ made_by: `ali-oss ${version}`, signatures }, null, 0).replaceAll('","', '",\n"') + '\n',
);
console.log(`${signatures.length} signatures, ${different.length} differ`);
