/** What can end a reply besides its finish reasons. */

/** The prompt does not fit the context; carries both lengths. */
export class ContextFullError extends Error {
  override readonly name = 'ContextFullError';
  constructor(
    readonly promptTokens: number,
    readonly contextLength: number,
  ) {
    super(`the prompt has ${promptTokens} tokens, the context holds ${contextLength}`);
  }
}

/** A second reply was asked for while one is being generated. */
export class EngineBusyError extends Error {
  override readonly name = 'EngineBusyError';
  constructor() {
    super('the engine is generating a reply; cancel it or wait for its end');
  }
}

/** A token id outside the vocabulary, an empty prompt, or a sampling option outside its range. */
export class InvalidRequestError extends Error {
  override readonly name = 'InvalidRequestError';
}

/** A logit bias for a token that does not exist, or one that is no number. */
export class LogitBiasError extends Error {
  override readonly name = 'LogitBiasError';
  readonly param = 'logit_bias';
  constructor(
    readonly tokenId: number,
    readonly expected: string,
    readonly actual: number,
  ) {
    super(`logit_bias of token ${tokenId}: expected ${expected}, got ${actual}`);
  }
}

/** The model produced NaN or infinite logits: nothing it says from here on means anything. */
export class NonFiniteLogitsError extends Error {
  override readonly name = 'NonFiniteLogitsError';
  constructor(readonly position: number) {
    super(`the logits after position ${position} are not finite`);
  }
}

/** The GPU device is gone: crash, driver reset, or `destroy()`. */
export class DeviceLostError extends Error {
  override readonly name = 'DeviceLostError';
}

/** WebGPU rejected an operation of this call. */
export class GpuOperationError extends Error {
  override readonly name = 'GpuOperationError';
}

/** Workgroups of the whole-token kernel waited too long for each other; the engine uses the ordinary kernels from now on. */
export class PersistentStoppedError extends Error {
  override readonly name = 'PersistentStoppedError';
  constructor() {
    super('the whole-token kernel gave up; this reply ends here, the next ones use the ordinary kernels');
  }
}
