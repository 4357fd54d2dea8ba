export type { ChatMessage } from './chat-template';
export { ChatTokenizer } from './chat-tokenizer';
export { IncrementalDetokenizer } from './detokenizer';
export { ChatTemplateError, TokenizerError } from './errors';
export type { TokenizerFileNames, TokenizerFiles } from './files';
