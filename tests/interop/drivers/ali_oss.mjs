// Drives `ali-oss`, the official SDK for Node. The protocol of the lines is told in service.py.

import dns from "node:dns";
import { createRequire } from "node:module";
import readline from "node:readline";

const OSS = createRequire(new URL("../node/package.json", import.meta.url))("ali-oss");
const clients = new Map();

resolveHere(".example");

// Virtual-hosted addresses need names, and no name server is asked for them.
function resolveHere(suffix) {
  const ask = dns.lookup;
  dns.lookup = (host, ...rest) => ask(host.endsWith(suffix) ? "127.0.0.1" : host, ...rest);
}

function clientOf(at) {
  const name = JSON.stringify(at);
  if (!clients.has(name)) {
    clients.set(
      name,
      new OSS({
        accessKeyId: at.id,
        accessKeySecret: at.secret,
        stsToken: at.token ?? undefined,
        refreshSTSToken: at.token ? async () => ({}) : null,
        endpoint: at.endpoint,
        bucket: at.bucket,
        region: `oss-${at.region}`,
        authorizationV4: at.signature === "v4",
        cname: at.addressing === "cname",
        sldEnable: at.addressing === "path",
      }),
    );
  }
  return clients.get(name);
}

// A CRC-64 stays text: it is more than a number of JavaScript holds.
const number = (text) => (text === undefined ? null : Number(text));
const bare = (etag) => (etag ? etag.replaceAll('"', "") : null);

const verbs = {
  async put({ at, key, data }) {
    const { res } = await clientOf(at).put(key, Buffer.from(data, "base64"));
    return { status: res.status, crc64: res.headers["x-oss-hash-crc64ecma"] ?? null, etag: bare(res.headers.etag) };
  },

  async append({ at, key, position, data }) {
    const result = await clientOf(at).append(key, Buffer.from(data, "base64"), { position });
    return {
      status: result.res.status,
      next_position: number(result.nextAppendPosition),
      crc64: result.res.headers["x-oss-hash-crc64ecma"] ?? null,
      etag: bare(result.res.headers.etag),
    };
  },

  async head({ at, key }) {
    const { headers } = (await clientOf(at).head(key)).res;
    return {
      length: number(headers["content-length"]),
      type: headers["x-oss-object-type"],
      crc64: headers["x-oss-hash-crc64ecma"] ?? null,
      next_position: number(headers["x-oss-next-append-position"]),
      etag: bare(headers.etag),
    };
  },

  async meta({ at, key }) {
    const { headers } = (await clientOf(at).getObjectMeta(key)).res;
    return { length: number(headers["content-length"]), etag: bare(headers.etag) };
  },

  async get({ at, key, first, last, standard }) {
    const headers = {};
    if (first !== undefined || last !== undefined) headers.Range = `bytes=${first ?? ""}-${last ?? ""}`;
    if (standard) headers["x-oss-range-behavior"] = "standard";
    const { res, content } = await clientOf(at).get(key, { headers });
    return {
      status: res.status,
      data: content.toString("base64"),
      content_range: res.headers["content-range"] ?? null,
      crc64: res.headers["x-oss-hash-crc64ecma"] ?? null,
    };
  },

  async list_v1({ at, prefix, delimiter, limit, after }) {
    const query = given({ prefix, delimiter, "max-keys": limit, marker: after });
    const result = await clientOf(at).list(query);
    return listed(result, result.nextMarker);
  },

  async list_v2({ at, prefix, delimiter, limit, after }) {
    const query = given({ prefix, delimiter, "max-keys": limit, "continuation-token": after });
    const result = await clientOf(at).listV2(query);
    return listed(result, result.nextContinuationToken);
  },

  async presign({ at, key, seconds }) {
    const client = clientOf(at);
    const url =
      at.signature === "v4"
        ? await client.signatureUrlV4("GET", seconds, undefined, key)
        : client.signatureUrl(key, { expires: seconds });
    return { url };
  },

  async delete({ at, key }) {
    return { status: (await clientOf(at).delete(key)).res.status };
  },
};

// The SDK sends a parameter without a value, but leaves it out of the V4 signature.
function given(query) {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined && value !== ""));
}

function listed(result, following) {
  return {
    rows: (result.objects ?? []).map((row) => [row.name, row.size, row.type]),
    prefixes: result.prefixes ?? [],
    next: result.isTruncated ? following : null,
  };
}

function explained(error) {
  return {
    error: error.code ?? error.name,
    status: error.status ?? null,
    message: error.message,
    request_id: error.requestId ?? null,
    next_position: null,
  };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { do: verb, ...request } = JSON.parse(line);
  let facts;
  try {
    facts = await verbs[verb](request);
  } catch (error) {
    facts = explained(error);
  }
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}
