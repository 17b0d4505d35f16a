import com.aliyun.sdk.service.oss2.OSSClient;
import com.aliyun.sdk.service.oss2.PresignOptions;
import com.aliyun.sdk.service.oss2.credentials.StaticCredentialsProvider;
import com.aliyun.sdk.service.oss2.exceptions.InconsistentException;
import com.aliyun.sdk.service.oss2.exceptions.ServiceException;
import com.aliyun.sdk.service.oss2.models.AppendObjectRequest;
import com.aliyun.sdk.service.oss2.models.AppendObjectResult;
import com.aliyun.sdk.service.oss2.models.CommonPrefix;
import com.aliyun.sdk.service.oss2.models.DeleteObjectRequest;
import com.aliyun.sdk.service.oss2.models.GetObjectMetaRequest;
import com.aliyun.sdk.service.oss2.models.GetObjectMetaResult;
import com.aliyun.sdk.service.oss2.models.GetObjectRequest;
import com.aliyun.sdk.service.oss2.models.GetObjectResult;
import com.aliyun.sdk.service.oss2.models.HeadObjectRequest;
import com.aliyun.sdk.service.oss2.models.HeadObjectResult;
import com.aliyun.sdk.service.oss2.models.ListObjectsRequest;
import com.aliyun.sdk.service.oss2.models.ListObjectsResult;
import com.aliyun.sdk.service.oss2.models.ListObjectsV2Request;
import com.aliyun.sdk.service.oss2.models.ListObjectsV2Result;
import com.aliyun.sdk.service.oss2.models.ObjectSummary;
import com.aliyun.sdk.service.oss2.models.PresignResult;
import com.aliyun.sdk.service.oss2.models.PutObjectRequest;
import com.aliyun.sdk.service.oss2.models.PutObjectResult;
import com.aliyun.sdk.service.oss2.models.SealAppendObjectRequest;
import com.aliyun.sdk.service.oss2.models.SealAppendObjectResult;
import com.aliyun.sdk.service.oss2.transport.BinaryData;
import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Drives `com.aliyun:alibabacloud-oss-v2`, the second official SDK for Java, by its synchronous client. */
final class Sdk2 {
  private static final Map<JsonNode, OSSClient> CLIENTS = new HashMap<>();

  private Sdk2() {}

  public static void main(String[] arguments) throws Exception {
    var verbs = new HashMap<String, Service.Verb>();
    verbs.put("put", Sdk2::put);
    verbs.put("append", Sdk2::append);
    verbs.put("head", Sdk2::head);
    verbs.put("meta", Sdk2::meta);
    verbs.put("get", Sdk2::get);
    verbs.put("download", Sdk2::download);
    verbs.put("list_v1", Sdk2::listV1);
    verbs.put("list_v2", Sdk2::listV2);
    verbs.put("presign", Sdk2::presign);
    verbs.put("seal", Sdk2::seal);
    verbs.put("delete", Sdk2::delete);
    Service.serve(verbs, Sdk2::explain);
  }

  // Kept, so that connections are used again.
  private static OSSClient client(JsonNode request) {
    return CLIENTS.computeIfAbsent(request.get("at"), at -> {
      String addressing = at.get("addressing").asText();
      var credentials = new StaticCredentialsProvider(
          at.get("id").asText(), at.get("secret").asText(), Service.text(at, "token"));
      return OSSClient.newBuilder()
          .credentialsProvider(credentials)
          .region(at.get("region").asText())
          .endpoint(at.get("endpoint").asText())
          .signatureVersion(at.get("signature").asText())
          .usePathStyle(addressing.equals("path"))
          .useCName(addressing.equals("cname"))
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
    PutObjectResult result = client(request).putObject(PutObjectRequest.newBuilder()
        .bucket(bucket(request))
        .key(key(request))
        .body(BinaryData.fromBytes(Service.body(request)))
        .build());
    return Service.facts(
        "status", result.statusCode(), "crc64", result.hashCrc64ecma(), "etag", Service.bare(result.eTag()));
  }

  private static Map<String, Object> append(JsonNode request) {
    AppendObjectRequest.Builder asked = AppendObjectRequest.newBuilder()
        .bucket(bucket(request))
        .key(key(request))
        .position(request.get("position").asLong())
        .body(BinaryData.fromBytes(Service.body(request)));
    if (request.has("init_crc")) asked.initHashCRC64(Long.parseUnsignedLong(request.get("init_crc").asText()));
    AppendObjectResult result = client(request).appendObject(asked.build());
    return Service.facts(
        "status", result.statusCode(),
        "next_position", result.nextAppendPosition(),
        "crc64", result.headers().get("x-oss-hash-crc64ecma"),
        "etag", Service.bare(result.headers().get("ETag")));
  }

  private static Map<String, Object> head(JsonNode request) {
    HeadObjectResult found = client(request).headObject(
        HeadObjectRequest.newBuilder().bucket(bucket(request)).key(key(request)).build());
    return Service.facts(
        "length", found.contentLength(),
        "type", found.objectType(),
        "crc64", found.hashCrc64ecma(),
        "next_position", found.nextAppendPosition(),
        "etag", Service.bare(found.eTag()),
        "sealed_time", found.headers().get("x-oss-sealed-time"));
  }

  private static Map<String, Object> meta(JsonNode request) {
    GetObjectMetaResult found = client(request).getObjectMeta(
        GetObjectMetaRequest.newBuilder().bucket(bucket(request)).key(key(request)).build());
    return Service.facts("length", found.contentLength(), "etag", Service.bare(found.eTag()));
  }

  private static Map<String, Object> get(JsonNode request) throws Exception {
    GetObjectRequest.Builder asked = GetObjectRequest.newBuilder().bucket(bucket(request)).key(key(request));
    if (Service.range(request) != null) asked.range(Service.range(request));
    if (request.path("standard").asBoolean()) asked.rangeBehavior("standard");
    try (GetObjectResult found = client(request).getObject(asked.build())) {
      return Service.facts(
          "data", Service.packed(found.body().readAllBytes()),
          "status", found.statusCode(),
          "content_range", found.contentRange(),
          "crc64", found.hashCrc64ecma());
    }
  }

  private static Map<String, Object> download(JsonNode request) throws Exception {
    Path copy = Files.createTempFile("copy", null);
    try {
      var asked = GetObjectRequest.newBuilder().bucket(bucket(request)).key(key(request)).build();
      client(request).getObjectToFile(asked, copy);
      return Service.facts("data", Service.packed(Files.readAllBytes(copy)));
    } finally {
      Files.deleteIfExists(copy);
    }
  }

  private static Map<String, Object> listV1(JsonNode request) {
    ListObjectsRequest.Builder asked = ListObjectsRequest.newBuilder().bucket(bucket(request));
    Service.given(request, "prefix", asked::prefix);
    Service.given(request, "delimiter", asked::delimiter);
    Service.given(request, "after", asked::marker);
    asked.maxKeys(request.path("limit").asLong(100));
    ListObjectsResult result = client(request).listObjects(asked.build());
    return listed(result.contents(), result.commonPrefixes(), result.isTruncated() ? result.nextMarker() : null);
  }

  private static Map<String, Object> listV2(JsonNode request) {
    ListObjectsV2Request.Builder asked = ListObjectsV2Request.newBuilder().bucket(bucket(request));
    Service.given(request, "prefix", asked::prefix);
    Service.given(request, "delimiter", asked::delimiter);
    Service.given(request, "after", asked::continuationToken);
    asked.maxKeys(request.path("limit").asLong(100));
    ListObjectsV2Result result = client(request).listObjectsV2(asked.build());
    return listed(
        result.contents(), result.commonPrefixes(), result.isTruncated() ? result.nextContinuationToken() : null);
  }

  private static Map<String, Object> listed(List<ObjectSummary> found, List<CommonPrefix> prefixes, String next) {
    List<List<Object>> rows =
        found.stream().map(row -> List.<Object>of(row.key(), row.size(), row.type())).toList();
    return new Service.Page(rows, prefixes.stream().map(CommonPrefix::prefix).toList(), next).facts();
  }

  private static Map<String, Object> presign(JsonNode request) {
    GetObjectRequest.Builder asked = GetObjectRequest.newBuilder().bucket(bucket(request)).key(key(request));
    if (request.path("standard").asBoolean()) asked.rangeBehavior("standard");
    Duration life = Duration.ofSeconds(request.get("seconds").asLong());
    PresignResult result =
        client(request).presign(asked.build(), PresignOptions.newBuilder().expiration(life).build());
    return Service.facts("url", result.url(), "signed_headers", result.signedHeaders().orElse(Map.of()));
  }

  private static Map<String, Object> seal(JsonNode request) {
    SealAppendObjectResult result = client(request).sealAppendObject(SealAppendObjectRequest.newBuilder()
        .bucket(bucket(request))
        .key(key(request))
        .position(request.get("position").asLong())
        .build());
    return Service.facts("status", result.statusCode(), "sealed_time", result.headers().get("x-oss-sealed-time"));
  }

  private static Map<String, Object> delete(JsonNode request) {
    return Service.facts("status", client(request)
        .deleteObject(DeleteObjectRequest.newBuilder().bucket(bucket(request)).key(key(request)).build())
        .statusCode());
  }

  private static Map<String, Object> explain(Exception error) {
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      if (cause instanceof InconsistentException) {
        return Service.facts("error", "InconsistentError", "message", cause.getMessage());
      }
    }
    ServiceException refusal = ServiceException.asCause(error);
    if (refusal == null) return null;
    return Service.facts(
        "error", refusal.errorCode(),
        "status", refusal.statusCode(),
        "message", refusal.errorMessage(),
        "request_id", refusal.requestId(),
        "next_position", Service.number(refusal.headers().get("x-oss-next-append-position")));
  }
}
