/// How a model generates that was distilled to few steps, as its configurations tell.
public struct Distillation: Sendable, Equatable {
  public let scheduler: SchedulerKind
  public let steps: Int
  public let guidance: Double

  /// - Returns: nil where neither the scheduler that the model came with nor its U-Net say so.
  public init?(_ scheduler: SchedulerConfiguration, _ unet: UNetConfiguration) {
    guard let kind = scheduler.distilledFor ?? (unet.guidanceChannels == nil ? nil : .lcm) else { return nil }
    self.scheduler = kind
    steps = 4
    // A U-Net that is told the guidance was distilled with it; without, the unconditional branch is not used.
    guidance = unet.guidanceChannels == nil ? 1 : 8.5
  }
}

extension ModelFolder {
  /// Of the model in this folder, when it was distilled to few steps.
  public func distillation() throws -> Distillation? {
    Distillation(try schedulerConfiguration(), try configuration(UNetConfiguration.self, .unet))
  }

  func schedulerConfiguration() throws -> SchedulerConfiguration {
    var found = try configuration(
      SchedulerConfiguration.self, .scheduler, file: "scheduler_config.json")
    if let predicting { found.predictionType = predicting }
    return found
  }
}
