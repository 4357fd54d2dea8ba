export type { ChatMessage } from './chat-template';
export { ChatTokenizer, type Guard } from './chat-tokenizer';
export { IncrementalDetokenizer } from './detokenizer';
export { ChatTemplateError, TokenizerError, TokenizerTimeoutError } from './errors';
export type { TokenizerFileNames, TokenizerFiles } from './files';
