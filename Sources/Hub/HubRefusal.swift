import Files

extension HubClient {
  /// Why an answer is not the one that was asked for, in one line that says what to do; by the codes that the Hub sends
  /// (`hf_raise_for_status` of `huggingface_hub`).
  func refusal(_ response: HTTPResponse, _ name: RepositoryName, _ file: String? = nil) -> any Error {
    let place = response.address.place
    let code = response.headers["x-error-code"] ?? ""
    let status = response.status
    if [408, 429, 500, 502, 503, 504].contains(status) {
      return BusyServer(
        seconds: (response.number("retry-after") ?? Self.rateLimit(response)).map { max($0, 0) },
        reason: status == 429
          ? "\(place) limits how often it is asked (429)" : "\(place) cannot answer now (\(status))")
    }
    if response.headers["x-error-message"]?.contains("disabled") == true {
      return HubError("\(name.id) was disabled by the Hub; \(place) gives nobody its files")
    }
    let page = "\(settings.endpoint.text.trimmingSuffix("/"))/\(name.id)"
    if code == "GatedRepo" {
      return HubError(
        settings.token == nil
          ? "\(name.id) is gated: accept its conditions at \(page), make a token in your settings there, and put it into HF_TOKEN"
          : "\(name.id) is gated, and your token's account may not read it: accept its conditions at \(page), or wait until you are let in"
      )
    }
    if code == "RevisionNotFound" {
      return HubError(
        "\(name.id) has no revision \(quoted(name.wanted)); see the branches at \(page)/tree/main")
    }
    if code == "EntryNotFound", let file {
      return HubError("\(name): \(place) lists \(quoted(file)) but does not have it")
    }
    let isToken = response.headers["x-error-message"] == "Invalid credentials in Authorization header"
    if status == 401, isToken {
      return HubError("\(place) does not know your token; make another one, and put it into HF_TOKEN")
    }
    if code == "RepoNotFound" || status == 401 || (status == 404 && file == nil) {
      return HubError(
        "\(place) has no model \(name.id), or it is private"
          + (settings.token == nil
            ? "; check the name, or put a token that may read it into HF_TOKEN"
            : " and your token may not read it; check the name and the token"))
    }
    if status == 403 {
      return HubError("\(place) does not let you read \(name.id) (403); check your token's rights")
    }
    return HubError(
      "\(name)\(file.map { ", \(quoted($0))" } ?? ""): \(place) answers with status \(status); try again later"
    )
  }

  /// Seconds until the Hub lets one ask again: `RateLimit: "api";r=0;t=55`, r being what is left.
  private static func rateLimit(_ response: HTTPResponse) -> Int? {
    guard let match = response.headers["ratelimit"]?.firstMatch(of: /;\s*r=0;\s*t=([0-9]{1,6})/) else {
      return nil
    }
    return Int(match.output.1).map { $0 + 1 }
  }
}
