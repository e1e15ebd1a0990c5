"""Who sends how fast from where: zones, pools of sources, what destinations bear, and what is paused for a while."""
