import Files

/// What the studio refuses, in a line for the person at the page, and the HTTP status that says so.
struct StudioError: DescribedError {
  let message: String
  let status: HTTPStatus

  init(_ message: String, _ status: HTTPStatus = .unprocessable) {
    self.message = message
    self.status = status
  }
}
