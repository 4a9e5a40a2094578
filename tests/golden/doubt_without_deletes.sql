create or replace temp table in_doubt as
select distinct key from "contact"."in_flight";

delete from "contact"."change_set" where key in (select key from in_doubt);

insert into "contact"."change_set"
select key, kind, changed, case kind when 'insert' then 1 when 'update' then 2 when 'adopt' then 2 when 'delete' then 1 end
from (
  select f.key, s."contactid" as found,
         case when d."externalId" is null then 'delete' else 'adopt' end as kind,
         case when d."externalId" is not null and m."externalId" is not null then ['firstName']::varchar[] end as changed
  from in_doubt as f
  left join "contact"."desired" as d on d."externalId" = f.key
  left join "contact"."mirror" as m on m."externalId" = f.key
  left join "contact"."snapshot" as s on s."contactid" = f.key
)
where kind <> 'delete';
