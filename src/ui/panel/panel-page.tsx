import { PanelContents } from './panel-contents';

/** The developer panel as a page of its own. */
export function PanelPage() {
  return (
    <div class="bench-page">
      <header class="bench-header">
        <h1>Static against dynamic, on this GPU</h1>
        <a class="button quiet" href="./">
          Chat
        </a>
      </header>
      <main>
        <PanelContents />
      </main>
    </div>
  );
}
