/** A tokenizer file that cannot be used: says which file and field, what was expected there and what came. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError';

  constructor(
    /** Name of the file as the caller gave it, e.g. `tokenizer.json`. */
    readonly file: string,
    /** Dotted path of the field, or '' for the whole file. */
    readonly field: string,
    readonly expected: string,
    readonly found: string,
    options?: ErrorOptions,
  ) {
    super(`${file}${field === '' ? '' : `: ${field}`}: expected ${expected}, found ${found}`, options);
  }
}

/** A chat template or tokenizer pattern that does not come to an end. */
export class TokenizerTimeoutError extends Error {
  override readonly name = 'TokenizerTimeoutError';

  constructor(readonly deadlineMs: number) {
    super(
      `the model's chat template or tokenizer has not come to an end within ${deadlineMs / 1000} s and was stopped`,
    );
  }
}

/** A chat template that is missing, too large, does not parse, or refused the messages it was given. */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';

  constructor(
    /** Name of the file the template came from. */
    readonly file: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`chat template of ${file}: ${reason}`, options);
  }
}
