/// How long a client may take; who takes longer is cut off.
package struct Deadlines: Sendable {
  /// For the head of a request to arrive.
  package var head: Duration = .seconds(10)
  /// For a body, and for the client to take a response.
  package var body: Duration = .seconds(60)
  /// For a picture or another file, which may come over a slow line; and how long it may stand still.
  package var (large, piece): (Duration, Duration) = (.seconds(900), .seconds(20))
  /// For a file's turn to be read: few are at once.
  package var turn: Duration = .seconds(120)
  /// For a client to take an event.
  package var event: Duration = .seconds(10)

  package init() {}
}
