import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.logging.LogManager;

/** What both Java drivers share: JSON lines in, JSON lines out. The protocol of the lines is told in service.py. */
final class Service {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** One thing that a driver can be told to do. */
  interface Verb {
    Map<String, Object> answer(JsonNode request) throws Exception;
  }

  /** One page of a list. */
  record Page(List<List<Object>> rows, List<String> prefixes, String next) {
    Map<String, Object> facts() {
      return Service.facts("rows", rows, "prefixes", prefixes, "next", next);
    }
  }

  private Service() {}

  /** Answers every line of standard input. `explain` makes facts of an exception of the SDK, null of any other. */
  static void serve(Map<String, Verb> verbs, Function<Exception, Map<String, Object>> explain) throws Exception {
    LogManager.getLogManager().reset();
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonNode request = JSON.readTree(line);
      out.println(JSON.writeValueAsString(answer(verbs.get(request.get("do").asText()), request, explain)));
    }
  }

  // Whatever the SDK throws is a fact to be judged by the test.
  private static Map<String, Object> answer(
      Verb verb, JsonNode request, Function<Exception, Map<String, Object>> explain) {
    try {
      return verb.answer(request);
    } catch (Exception error) {
      Map<String, Object> facts = explain.apply(error);
      return facts != null ? facts : facts("error", error.getClass().getSimpleName(), "message", error.toString());
    }
  }

  /** Names and values in turn; a value may be null. */
  static Map<String, Object> facts(Object... pairs) {
    var facts = new HashMap<String, Object>();
    for (int i = 0; i < pairs.length; i += 2) facts.put((String) pairs[i], pairs[i + 1]);
    return facts;
  }

  /** A text of the request; null where it is missing or empty. */
  static String text(JsonNode request, String name) {
    String text = request.hasNonNull(name) ? request.get(name).asText() : "";
    return text.isEmpty() ? null : text;
  }

  /** Hands on a text of the request, where there is one. */
  static void given(JsonNode request, String name, Consumer<String> take) {
    String text = text(request, name);
    if (text != null) take.accept(text);
  }

  /** The body of the request. */
  static byte[] body(JsonNode request) {
    return Base64.getDecoder().decode(request.get("data").asText());
  }

  static String packed(byte[] data) {
    return Base64.getEncoder().encodeToString(data);
  }

  /** The range that the request asks for as the value of a header; null where it asks for none. */
  static String range(JsonNode request) {
    if (!request.hasNonNull("first") && !request.hasNonNull("last")) return null;
    return "bytes=" + Objects.toString(text(request, "first"), "") + "-" + Objects.toString(text(request, "last"), "");
  }

  static String bare(String etag) {
    return etag == null ? null : etag.replace("\"", "");
  }

  static Long number(Object text) {
    return text == null ? null : Long.valueOf(text.toString());
  }
}
