#!/bin/sh
# The role barebone: installs nothing and changes nothing. No variable changes that.
begin_part role
progress 100 'Nothing is to be installed.'
end_part role
