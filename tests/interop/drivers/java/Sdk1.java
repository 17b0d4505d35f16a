import com.aliyun.oss.ClientBuilderConfiguration;
import com.aliyun.oss.InconsistentException;
import com.aliyun.oss.OSS;
import com.aliyun.oss.OSSClientBuilder;
import com.aliyun.oss.OSSException;
import com.aliyun.oss.common.auth.DefaultCredentialProvider;
import com.aliyun.oss.common.comm.SignVersion;
import com.aliyun.oss.model.AppendObjectRequest;
import com.aliyun.oss.model.AppendObjectResult;
import com.aliyun.oss.model.GetObjectRequest;
import com.aliyun.oss.model.ListObjectsRequest;
import com.aliyun.oss.model.ListObjectsV2Request;
import com.aliyun.oss.model.ListObjectsV2Result;
import com.aliyun.oss.model.OSSObject;
import com.aliyun.oss.model.OSSObjectSummary;
import com.aliyun.oss.model.ObjectListing;
import com.aliyun.oss.model.ObjectMetadata;
import com.aliyun.oss.model.PutObjectResult;
import com.aliyun.oss.model.SimplifiedObjectMeta;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayInputStream;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Drives `com.aliyun.oss:aliyun-sdk-oss`, the first official SDK for Java. */
final class Sdk1 {
  private static final Map<JsonNode, OSS> CLIENTS = new HashMap<>();

  private Sdk1() {}

  public static void main(String[] arguments) throws Exception {
    var verbs = new HashMap<String, Service.Verb>();
    verbs.put("put", Sdk1::put);
    verbs.put("append", Sdk1::append);
    verbs.put("head", Sdk1::head);
    verbs.put("meta", Sdk1::meta);
    verbs.put("get", Sdk1::get);
    verbs.put("download", Sdk1::download);
    verbs.put("list_v1", Sdk1::listV1);
    verbs.put("list_v2", Sdk1::listV2);
    verbs.put("presign", Sdk1::presign);
    verbs.put("delete", Sdk1::delete);
    Service.serve(verbs, Sdk1::explain);
  }

  // Kept, so that connections are used again.
  private static OSS client(JsonNode request) {
    return CLIENTS.computeIfAbsent(request.get("at"), at -> {
      var configuration = new ClientBuilderConfiguration();
      String addressing = at.get("addressing").asText();
      configuration.setSLDEnabled(addressing.equals("path"));
      configuration.setSupportCname(addressing.equals("cname"));
      configuration.setSignatureVersion(at.get("signature").asText().equals("v4") ? SignVersion.V4 : SignVersion.V1);
      configuration.setCrcCheckEnabled(true);
      var credentials = new DefaultCredentialProvider(
          at.get("id").asText(), at.get("secret").asText(), Service.text(at, "token"));
      return OSSClientBuilder.create()
          .endpoint(at.get("endpoint").asText())
          .credentialsProvider(credentials)
          .clientConfiguration(configuration)
          .region(at.get("region").asText())
          .build();
    });
  }

  private static String bucket(JsonNode request) {
    return request.get("at").get("bucket").asText();
  }

  private static String key(JsonNode request) {
    return request.get("key").asText();
  }

  private static Map<String, Object> put(JsonNode request) {
    var body = new ByteArrayInputStream(Service.body(request));
    PutObjectResult result = client(request).putObject(bucket(request), key(request), body);
    return Service.facts("crc64", unsigned(result.getServerCRC()), "etag", result.getETag());
  }

  private static Map<String, Object> append(JsonNode request) {
    var body = new ByteArrayInputStream(Service.body(request));
    var asked = new AppendObjectRequest(bucket(request), key(request), body)
        .withPosition(request.get("position").asLong());
    if (request.has("init_crc")) asked.setInitCRC(Long.parseUnsignedLong(request.get("init_crc").asText()));
    AppendObjectResult result = client(request).appendObject(asked);
    return Service.facts(
        "status", result.getResponse().getStatusCode(),
        "next_position", result.getNextPosition(),
        "crc64", unsigned(result.getServerCRC()),
        "etag", Service.bare(result.getResponse().getHeaders().get("ETag")));
  }

  private static Map<String, Object> head(JsonNode request) {
    ObjectMetadata found = client(request).getObjectMetadata(bucket(request), key(request));
    Map<String, Object> headers = found.getRawMetadata();
    return Service.facts(
        "length", found.getContentLength(),
        "type", found.getObjectType(),
        "crc64", headers.get("x-oss-hash-crc64ecma"),
        "next_position", Service.number(headers.get("x-oss-next-append-position")),
        "etag", found.getETag());
  }

  private static Map<String, Object> meta(JsonNode request) {
    SimplifiedObjectMeta found = client(request).getSimplifiedObjectMeta(bucket(request), key(request));
    return Service.facts("length", found.getSize(), "etag", found.getETag());
  }

  private static Map<String, Object> get(JsonNode request) throws Exception {
    var asked = new GetObjectRequest(bucket(request), key(request));
    if (Service.range(request) != null) {
      asked.setRange(request.path("first").asLong(-1), request.path("last").asLong(-1));
    }
    if (request.path("standard").asBoolean()) asked.addHeader("x-oss-range-behavior", "standard");
    try (OSSObject found = client(request).getObject(asked)) {
      return Service.facts(
          "data", Service.packed(found.getObjectContent().readAllBytes()),
          "status", found.getResponse().getStatusCode(),
          "content_range", found.getObjectMetadata().getRawMetadata().get("Content-Range"),
          "crc64", unsigned(found.getServerCRC()));
    }
  }

  private static Map<String, Object> download(JsonNode request) throws Exception {
    Path copy = Files.createTempFile("copy", null);
    try {
      client(request).getObject(new GetObjectRequest(bucket(request), key(request)), copy.toFile());
      return Service.facts("data", Service.packed(Files.readAllBytes(copy)));
    } finally {
      Files.deleteIfExists(copy);
    }
  }

  private static Map<String, Object> listV1(JsonNode request) {
    var asked = new ListObjectsRequest(
        bucket(request), Service.text(request, "prefix"), Service.text(request, "after"),
        Service.text(request, "delimiter"), request.path("limit").asInt(100));
    asked.setEncodingType("url");
    ObjectListing result = client(request).listObjects(asked);
    return listed(
        result.getEncodingType(), result.getObjectSummaries(), result.getCommonPrefixes(),
        result.isTruncated() ? decoded(result.getNextMarker(), result.getEncodingType()) : null);
  }

  private static Map<String, Object> listV2(JsonNode request) {
    var asked = new ListObjectsV2Request(bucket(request), Service.text(request, "prefix"));
    asked.setDelimiter(Service.text(request, "delimiter"));
    asked.setMaxKeys(request.path("limit").asInt(100));
    asked.setContinuationToken(Service.text(request, "after"));
    asked.setEncodingType("url");
    ListObjectsV2Result result = client(request).listObjectsV2(asked);
    return listed(
        result.getEncodingType(), result.getObjectSummaries(), result.getCommonPrefixes(),
        result.isTruncated() ? result.getNextContinuationToken() : null);
  }

  private static Map<String, Object> listed(
      String encoding, List<OSSObjectSummary> found, List<String> prefixes, String next) {
    List<List<Object>> rows = found.stream()
        .map(row -> List.<Object>of(decoded(row.getKey(), encoding), row.getSize(), row.getType()))
        .toList();
    return new Service.Page(rows, prefixes.stream().map(name -> decoded(name, encoding)).toList(), next).facts();
  }

  // The SDK hands out names as they came, and says how they were written.
  private static String decoded(String name, String encoding) {
    return "url".equals(encoding) ? URLDecoder.decode(name, StandardCharsets.UTF_8) : name;
  }

  private static Map<String, Object> presign(JsonNode request) {
    var until = new Date(System.currentTimeMillis() + 1000 * request.get("seconds").asLong());
    return Service.facts(
        "url", client(request).generatePresignedUrl(bucket(request), key(request), until).toString());
  }

  private static Map<String, Object> delete(JsonNode request) {
    var result = client(request).deleteObject(bucket(request), key(request));
    return Service.facts("status", result.getResponse().getStatusCode());
  }

  private static String unsigned(Long crc) {
    return crc == null ? null : Long.toUnsignedString(crc);
  }

  // An exception of this SDK carries neither the status nor the headers of the answer.
  private static Map<String, Object> explain(Exception error) {
    if (error instanceof InconsistentException) {
      return Service.facts("error", "InconsistentError", "message", error.getMessage());
    }
    if (!(error instanceof OSSException refusal)) return null;
    return Service.facts(
        "error", refusal.getErrorCode(), "message", refusal.getErrorMessage(), "request_id", refusal.getRequestId());
  }
}
