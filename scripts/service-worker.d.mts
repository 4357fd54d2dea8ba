import type { Plugin } from 'vite';

/** Writes sw.js with the names of the build's files. */
export function serviceWorker(): Plugin;
