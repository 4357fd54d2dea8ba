import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Chat } from './chat';

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Chat model={new URLSearchParams(location.search).get('model') ?? '/model/'} />
  </StrictMode>,
);
